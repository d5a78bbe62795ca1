"""Colours of the pages: light and dark after the reader's preference, light on paper."""

from __future__ import annotations

from meow_lightning.report.svg import COLOURS

DARK = {
    "ink": "#e4e2dc",
    "soft": "#9a9ea6",
    "rule": "#3a3d42",
    "target": "#e0895a",
    "unlearned": "#6cb6ea",
    "retain": "#a3a7af",
    "curve0": "#6cb6ea",
    "curve1": "#e0895a",
    "curve2": "#8fbf8a",
    "curve3": "#c39ad6",
    "curve4": "#d3b95c",
    "paper": "#17191c",
    "panel": "#1f2226",
    "mark": "#5a4a12",
    "added": "#1f3d2a",
    "gone": "#4a2723",
    "good": "#7dbb7a",
    "mixed": "#d3b95c",
    "bad": "#e57f73",
    "open": "#9a9ea6",
}
LIGHT = {
    **COLOURS,
    "paper": "#fdfcf9",
    "panel": "#f5f3ed",
    "mark": "#fbe9a6",
    "added": "#dcefd9",
    "gone": "#f8e0dc",
    "good": "#37752f",
    "mixed": "#87660c",
    "bad": "#b3352b",
    "open": "#666b73",
}


def sheet() -> str:
    """Build the colour variables of a page's style sheet; print always uses the light ones."""
    light, dark = (_variables(colours) for colours in (LIGHT, DARK))
    return (
        f":root {{ color-scheme: light; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ color-scheme: dark; {dark} }} }}\n"
    )


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())
