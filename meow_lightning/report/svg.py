"""SVG figures: standalone files in light colours, and inline figures that follow the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Every colour is unique, so that it can be replaced in the SVG by the page's variable of that name.
COLOURS = {
    "ink": "#23262b",
    "soft": "#666b73",
    "rule": "#d5d3cd",
    "target": "#ad4f1a",
    "unlearned": "#1b6ca8",
    "retain": "#6d7078",
    "curve0": "#1b6ca9",
    "curve1": "#ad4f1b",
    "curve2": "#467543",
    "curve3": "#8a5a9e",
    "curve4": "#846a14",
}
DASHES: dict[str, Any] = {"target": (0, (5, 2)), "unlearned": "solid", "retain": (0, (1.5, 1.5))}  # of lines, by role
WIDTH = 4.8  # inches; half the page
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 8.5,
    "text.parse_math": False,
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["soft"],
    "axes.labelcolor": COLOURS["soft"],
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": COLOURS["soft"],
    "ytick.color": COLOURS["soft"],
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.labelcolor": COLOURS["ink"],
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure: ``svg`` is ``None`` if it could not be drawn, and ``missing`` the reason.

    ``across`` is set for figures of full instead of half page width.
    """

    name: str
    title: str
    caption: str
    svg: str | None
    missing: str
    across: bool


def render(
    name: str, title: str, caption: str, *, missing: str, size: tuple[float, float], draw: Callable[[Figure], None]
) -> Picture:
    """Draw a figure; if ``missing`` gives a reason, return a picture without SVG.

    Args:
        name: File name without extension; also makes the SVG's ids unique within a page.
        title: A few words.
        caption: What is shown and how to read it.
        missing: Why the figure cannot be drawn; else empty.
        size: Width and height in inches; above ``WIDTH`` the figure has full page width.
        draw: Draws on the given figure.
    """
    if missing:
        return Picture(name, title, caption, None, missing, size[0] > WIDTH)
    # Importing matplotlib takes about a second, so it is done only to draw. No pyplot, to avoid global state.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    out = io.StringIO()
    with rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<!DOCTYPE.*?>\s*", "", out.getvalue(), flags=re.DOTALL)
    return Picture(name, title, caption, svg, "", size[0] > WIDTH)


def inline(picture: Picture) -> Markup:
    """Prepare an SVG for inlining: page colours, unique ids, no external references.

    The result is inserted unchanged: matplotlib escapes the texts of a figure.

    Raises:
        ValueError: The picture was not drawn.
    """
    if picture.svg is None:
        raise ValueError(f"figure {picture.name} was not drawn: {picture.missing}")
    svg = picture.svg[picture.svg.index("<svg") :]
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    svg = re.sub(r'\bid="', f'id="{picture.name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{picture.name}-", svg)
    svg = re.sub(r'xlink:href="#', f'href="#{picture.name}-', svg)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"| xmlns:xlink="[^"]*"| version="[^"]*"', "", svg)
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{escape(picture.title)}" ', 1))


def spread_labels(heights: Sequence[float], *, gap: float) -> list[float]:
    """Move heights down just far enough that any two are at least ``gap`` apart, preserving their order."""
    placed = list(heights)
    order = sorted(range(len(placed)), key=lambda position: -placed[position])
    for above, below in pairwise(order):
        placed[below] = min(placed[below], placed[above] - gap)
    return placed
