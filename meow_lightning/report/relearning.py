"""How fast relearning brings the facts back: the curve over steps, and the steps to half of the target's value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from meow_lightning.evaluation.subject import Subject
from meow_lightning.report.data import ROLE_NAMES, ReportData, number
from meow_lightning.report.svg import COLOURS, DASHES, WIDTH, Picture, render
from meow_lightning.report.traces import VALUES
from meow_lightning.types import ROLES, Role

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURED = f"eval/{VALUES}"  # the name of a point during training
Points = Sequence[tuple[float, float]]  # step, and share of the answers that state the true value


def steps_to_half(points: Points, *, full: float) -> float | None:
    """Return the first measured step at which a model states half of what the target model does; ``None`` if at none.

    Args:
        points: Steps and shares in order.
        full: Share of the target model before any attack.
    """
    return next((step for step, share in points if share >= full / 2), None)


def relearning_curves(data: ReportData) -> dict[str, dict[Role, Points]]:
    """Collect the curves of every attack with ``attacks.<attack>.curve``, by its name and by model."""
    found: dict[str, dict[Role, Points]] = {}
    for condition in data.results.conditions:
        curves: dict[Role, Points] = {
            role: [(row["step"], row[MEASURED]) for row in data.curves.get(str(Subject(role, condition)), ())
                   if MEASURED in row]
            for role in ROLES
        }  # fmt: skip
        if any(curves.values()):
            found[condition] = {role: points for role, points in curves.items() if points}
    return found


def relearning_sentences(data: ReportData) -> list[str]:
    """Say for every attack with a curve after how many steps each model states half of what the target model does."""
    full = number(data.results, "target", VALUES)
    if not full:
        return []
    return [
        f"{_titled(data, condition)}: half of the target model's value accuracy ({full / 2:.2f}) is reached "
        + ", ".join(_reached(role, points, full=full) for role, points in curves.items() if role != "target")
        + "."
        for condition, curves in relearning_curves(data).items()
        if set(curves) - {"target"}
    ]


def relearning_picture(data: ReportData) -> Picture:
    """Plot the share of true values over the steps of every attack with a curve."""
    curves, full = relearning_curves(data), number(data.results, "target", VALUES)
    caption = (
        "Share of the answers to the forget set that state the true value, by optimizer step of the attack. The line "
        "is half of the target model's share."
    )
    return render(
        "relearning", "Relearning step by step", caption,
        missing="" if curves else "no attack measured a curve (attacks.relearn.curve)",
        size=(2 * WIDTH if len(curves) > 1 else WIDTH, 2.9 * -(-len(curves) // 2) + 0.1),
        draw=lambda figure: _draw(figure, {_titled(data, each): curves[each] for each in curves}, full=full),
    )  # fmt: skip


def _draw(figure: Figure, panels: Mapping[str, Mapping[Role, Points]], *, full: float | None) -> None:
    columns = min(2, len(panels))
    for position, (title, curves) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(-(-len(panels) // columns), columns, position)
        if full:
            axes.axhline(full / 2, color=COLOURS["rule"], linewidth=1, zorder=0)
        for role, points in curves.items():
            steps, shares = zip(*points, strict=True)
            axes.plot(
                steps, shares, color=COLOURS[role], linestyle=DASHES[role], label=ROLE_NAMES[role], marker="o",
                markersize=3,
            )  # fmt: skip
        axes.set_title(title, loc="left", fontsize=8.5, color=COLOURS["soft"])
        axes.set(xlabel="step", ylabel="value accuracy", ylim=(-0.03, 1.03))
        axes.legend(loc="best", fontsize=7.5, handlelength=2.6)


def _titled(data: ReportData, condition: str) -> str:
    text = data.results.conditions[condition]
    return text[:1].upper() + text[1:]


def _reached(role: Role, points: Points, *, full: float) -> str:
    step, (last, _) = steps_to_half(points, full=full), points[-1]
    if step is not None:
        return f"by the {ROLE_NAMES[role]} after {step:.0f} of {last:.0f} steps"
    return f"by the {ROLE_NAMES[role]} at none of {last:.0f} steps (at most {max(share for _, share in points):.2f})"
