"""Figures of a sweep: retained against forgotten knowledge, with intervals and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meow_lightning.report.svg import COLOURS, WIDTH, Picture, render, spread_labels
from meow_lightning.report.sweep_formats import SIGN, Column
from meow_lightning.report.sweep_tables import Nested
from meow_lightning.report.verdict import SIGNIFICANCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (WIDTH, 3.6)
MOST_LABELS = 12  # rows up to which every point is labelled; of more rows, those on the front and the references
FLOOR = 3.0  # distance below the lowest finite value at which a p-value of 0 is drawn


@dataclass(frozen=True, slots=True)
class Plane:
    """Two metrics of the rows of a sweep: what is kept to the right, what is forgotten above.

    Attributes:
        name: File name of the figure.
        title: Its title.
        kept: The metric on the horizontal axis.
        forgotten: The metric on the vertical axis; reversed if lower is better.
        tied_above: Value of ``forgotten`` above which rows tie, in the direction in which it gets better.
    """

    name: str
    title: str
    kept: Column
    forgotten: Column
    tied_above: float = math.inf

    @property
    def points(self) -> dict[str, tuple[float, float]]:
        """Rows that have both numbers, with them."""
        return {
            row: (value, self.forgotten.means[row])
            for row, value in self.kept.means.items()
            if row in self.forgotten.means
        }

    def front(self, candidates: Collection[str]) -> list[str]:
        """List the rows on the Pareto front, the most useful first; none if there are no two rows to compare.

        Args:
            candidates: Rows that may be on it.
        """
        across, up = SIGN[self.kept.direction], SIGN[self.forgotten.direction]
        compared = {
            row: (across * x, min(up * y, self.tied_above)) for row, (x, y) in self.points.items() if row in candidates
        }
        return pareto_front(compared) if len(compared) > 1 else []


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """List the points that no other point dominates: at least as good in both numbers, and better in one.

    Args:
        points: Two numbers by name, each the larger the better.

    Returns:
        The names by the first number, largest first.
    """
    front = [
        name
        for name, (x, y) in points.items()
        if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points.values())
    ]
    return sorted(front, key=lambda name: (-points[name][0], name))


def plane_picture(
    plane: Plane, intervals: Nested, *, candidates: Collection[str], references: Collection[str]
) -> Picture:
    """Draw a plane with the front.

    Args:
        plane: The two metrics.
        intervals: Interval of each mean, by row and metric; may be incomplete.
        candidates: Rows that may be on the front.
        references: Rows that unlearn nothing.
    """
    front = plane.front(candidates)
    some = any({plane.kept.name, plane.forgotten.name} & intervals.get(row, {}).keys() for row in plane.points)
    caption = (
        "Further right keeps more, further up forgets more."
        + f" The line joins the Pareto front: {', '.join(map(short_name, front))}." * bool(front)
        + (
            f" Above p = {SIGNIFICANCE} the test does not tell a model from the retain model, so these models tie."
            if math.isfinite(plane.tied_above)
            else ""
        )
        + " Bars are the intervals of the means, where measured." * some
        + " Squares unlearn nothing: the start model, and one trained without the facts." * bool(references)
    )
    missing = "" if plane.points else f"no run has both {plane.kept.label} and {plane.forgotten.label}"
    return render(
        plane.name, plane.title, caption, missing=missing, size=SIZE,
        draw=lambda figure: _draw(figure, plane, intervals, front=front, references=references),
    )  # fmt: skip


def short_name(row: str) -> str:
    """Shorten the name of a row: ``method=npo method.beta=0.1`` becomes ``npo method.beta=0.1``."""
    return row.removeprefix("method=")


def _draw(
    figure: Figure, plane: Plane, intervals: Nested, *, front: Sequence[str], references: Collection[str]
) -> None:
    axes = figure.add_subplot()
    finite = [y for _, y in plane.points.values() if math.isfinite(y)]
    at = {row: (x, y if math.isfinite(y) else min(finite, default=0) - FLOOR) for row, (x, y) in plane.points.items()}
    if math.isfinite(plane.tied_above):
        axes.axhline(plane.tied_above, color=COLOURS["rule"], linewidth=1)
        axes.annotate(
            f"p = {SIGNIFICANCE}", (0, plane.tied_above), (2, -3), va="top", xycoords=("axes fraction", "data"),
            textcoords="offset points", color=COLOURS["soft"], fontsize=7.5,
        )  # fmt: skip
    for row, (x, y) in at.items():
        colour = COLOURS["unlearned" if row in front else "target" if row in references else "retain"]
        ends = intervals.get(row, {})
        if plane.kept.name in ends:
            axes.plot(ends[plane.kept.name], (y, y), color=colour, linewidth=0.9, alpha=0.6)
        if plane.forgotten.name in ends:
            axes.plot((x, x), ends[plane.forgotten.name], color=colour, linewidth=0.9, alpha=0.6)
        axes.scatter(
            [x], [y], s=30, marker="s" if row in references else "o", color=colour, zorder=4 if row in front else 3
        )
    line = [at[row] for row in front]
    axes.plot(*zip(*line, strict=True), color=COLOURS["unlearned"], linewidth=1, zorder=2) if line else None
    axes.set(xlabel=plane.kept.label, ylabel=plane.forgotten.label)
    if plane.forgotten.direction == "lower":
        axes.invert_yaxis()
    labelled = [row for row in at if len(at) <= MOST_LABELS or row in front or row in references]
    _label(axes, {row: at[row] for row in labelled})


def _label(axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Write the names of points into the right margin, each joined to its point by a thin line."""
    bottom, top = axes.get_ylim()
    up = math.copysign(1.0, top - bottom)
    heights = spread_labels([up * y for _, y in points.values()], gap=abs(top - bottom) * 0.055)
    for (row, point), height in zip(points.items(), heights, strict=True):
        axes.annotate(
            short_name(row), point, (1.03, up * height), textcoords=axes.get_yaxis_transform(), va="center",
            color=COLOURS["ink"], fontsize=7.5, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": COLOURS["soft"], "linewidth": 0.5, "alpha": 0.6, "shrinkB": 3},
        )  # fmt: skip
