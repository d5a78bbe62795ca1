"""Figures of a run: TOFU plane, truth ratios, MEMO and training curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from meow_lightning.evaluation.metrics.truth_ratio import configured_log_truth_ratio
from meow_lightning.evaluation.sets import set_info
from meow_lightning.evaluation.suite.inputs import metric_settings
from meow_lightning.report.data import ROLE_NAMES, ReportData, flatten, number, why_missing
from meow_lightning.report.svg import COLOURS, DASHES, WIDTH, Picture, render, spread_labels
from meow_lightning.report.verdict import SIGNIFICANCE
from meow_lightning.types import ROLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS = {"target": "s", "unlearned": "o", "retain": "D"}
SIZE = (WIDTH, 3.3)
ACROSS = 10.0  # inches; twice half a page and the gap


def pictures(data: ReportData) -> list[Picture]:
    """Draw the figures of a report in order: TOFU plane, truth ratios, MEMO, training curves."""
    return [_plane(data), _truth_ratios(data), _memo(data), _curves(data)]


def cumulative(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Compute the empirical distribution function: sorted values and the share at or below each."""
    ordered = sorted(values)
    return ordered, [(position + 1) / len(ordered) for position in range(len(ordered))]


def widest_gap(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Find where two empirical distribution functions differ most: the value, and both shares there.

    The difference of the shares is the two-sample Kolmogorov-Smirnov distance.

    Args:
        first: Values of one sample, at least one.
        second: Values of the other sample, at least one.
    """
    best = (0.0, 0.0, 0.0)
    for value in sorted({*first, *second}):
        low = sum(other <= value for other in first) / len(first)
        high = sum(other <= value for other in second) / len(second)
        if abs(low - high) >= abs(best[1] - best[2]):
            best = (value, low, high)
    return best


def forget_log_ratios(data: ReportData) -> dict[str, list[float]]:
    """Compute the log truth ratios of the forget set by role, without roles that have no rows.

    Averaged over wrong answers by the setting ``truth_ratio_mean``, default TOFU's geometric mean. Infinite ratios are
    clipped to just outside the finite ones, which preserves the order and thus the distance.
    """
    options = {path.split(".")[-1]: value for path, value in flatten(data.settings).items()}
    settings = metric_settings(
        truth_ratio_mean=str(options.get("truth_ratio_mean", "geometric")), protocol=options.get("protocol", "none")
    )
    ratios = {}
    for role in ROLES:
        rows = [row for row in data.rows.get(role, []) if set_info(row.set).purpose == "forget" and row.perturbed]
        ratios[role] = [configured_log_truth_ratio(row, settings) for row in rows]
    finite = [value for values in ratios.values() for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0) - 1, max(finite, default=0.0) + 1
    clipped = {role: [min(max(v, low), high) for v in values if not math.isnan(v)] for role, values in ratios.items()}
    return {role: values for role, values in clipped.items() if values}


def _plane(data: ReportData) -> Picture:
    """Plot model utility against forget quality, one labelled point per model."""
    points: dict[str, tuple[float, float]] = {}
    for role in ROLES:
        utility = number(data.results, role, "model_utility")
        quality = number(data.results, role, "forget_quality_log10")
        if quality is None and role == "retain" and data.results.values.get("retain"):
            quality = 0.0  # by definition: compared with itself
        if utility is not None and quality is not None:
            points[role] = (utility, quality)
    caption = (
        "Higher is more forgotten, further right more useful. The retain model lies at log10 p = 0 because it is "
        f"compared with itself. Above the line (p = {SIGNIFICANCE}) the test does not distinguish a model from the "
        "retain model."
    )
    missing = "" if "unlearned" in points else _first_reason(data, ("forget_quality_log10", "model_utility"))
    title = "Forget quality and model utility"
    return render("plane", title, caption, missing=missing, size=SIZE, draw=lambda figure: _draw_plane(figure, points))


def _draw_plane(figure: Figure, points: dict[str, tuple[float, float]]) -> None:
    axes = figure.add_subplot()
    finite = [quality for _, quality in points.values() if math.isfinite(quality)]
    floor = min([*finite, -2.0]) * 1.12 - (0.0 if len(finite) == len(points) else 3.0)
    at = {role: (x, y if math.isfinite(y) else floor) for role, (x, y) in points.items()}
    line = math.log10(SIGNIFICANCE)
    axes.axhline(line, color=COLOURS["rule"], linewidth=1)
    axes.annotate(f"p = {SIGNIFICANCE}", (0.01, line), (0, 3), textcoords="offset points", color=COLOURS["soft"])
    if "target" in at and "unlearned" in at:
        arrow = {"arrowstyle": "->", "color": COLOURS["soft"], "linewidth": 0.8, "shrinkA": 6, "shrinkB": 6}
        axes.annotate("", at["unlearned"], at["target"], arrowprops=arrow)
    heights = spread_labels([y for _, y in at.values()], gap=-floor * 0.09)
    for (role, (x, y)), height in zip(at.items(), heights, strict=True):
        axes.scatter([x], [y], s=46, marker=MARKS[role], color=COLOURS[role], zorder=3)
        right = x < 0.7
        axes.annotate(
            ROLE_NAMES[role] + ("" if math.isfinite(points[role][1]) else " (p = 0)"),
            (x + (0.03 if right else -0.03), height),
            ha="left" if right else "right",
            va="center",
            color=COLOURS[role],
            annotation_clip=False,
        )
    axes.set(xlim=(0, 1), ylim=(floor, -floor * 0.06), xlabel="model utility", ylabel="forget quality (log10 p)")


def _truth_ratios(data: ReportData) -> Picture:
    """Plot the distribution functions of the forget set's log truth ratio, with the KS distance marked."""
    ratios = forget_log_ratios(data)
    caption = (
        "Share of forget-set questions at or below each log truth ratio. Left of 0 a model prefers the true answer to "
        "the wrong ones. The bar is the Kolmogorov-Smirnov distance between the unlearned and the retain model."
    )
    missing = "" if ratios else "no answers with wrong references to compare"
    title = "Truth ratios of the forget set"
    return render(
        "truth-ratio",
        title,
        caption,
        missing=missing,
        size=SIZE,
        draw=lambda figure: _draw_truth_ratios(figure, ratios),
    )


def _draw_truth_ratios(figure: Figure, ratios: dict[str, list[float]]) -> None:
    axes = figure.add_subplot()
    for role, values in ratios.items():
        x, y = cumulative(values)
        axes.step(
            [x[0], *x], [0.0, *y], where="post", color=COLOURS[role], linestyle=DASHES[role], label=ROLE_NAMES[role]
        )
    if "unlearned" in ratios and "retain" in ratios:
        x_gap, first, second = widest_gap(ratios["unlearned"], ratios["retain"])
        axes.plot([x_gap, x_gap], [first, second], color=COLOURS["ink"], linewidth=1.2, marker="_", zorder=4)
        axes.annotate(
            f"KS {abs(first - second):.2f}",
            (x_gap, (first + second) / 2),
            (5, 0),
            textcoords="offset points",
            va="center",
        )
    axes.axvline(0, color=COLOURS["rule"], linewidth=0.8, zorder=0)
    axes.set(ylim=(0, 1.02), xlabel="log truth ratio", ylabel="share of questions")
    axes.legend(loc="upper left", handlelength=2.6)


def _memo(data: ReportData) -> Picture:
    """Plot MEMO per fact for every model, true answers above inverted ones."""
    strips = [
        (role, kind, [text.score for text in texts])
        for role in ROLES
        for kind in ("answers", "candidates")
        if (texts := data.memo.get(role, {}).get(kind))
    ]
    caption = (
        "How strongly each model memorizes each text, 0 (not at all) to 1 (recalled word for word); a dot is a text, "
        "the bar the mean. Filled: true answers of the forget set. Hollow: inverted answers, where they were measured."
    )
    missing = "" if strips else _first_reason(data, ("memo/answers",))
    title = "MEMO before and after"
    size = (ACROSS, 0.8 + 0.5 * max(len(strips), 2))
    return render("memo", title, caption, missing=missing, size=size, draw=lambda figure: _draw_memo(figure, strips))


def _draw_memo(figure: Figure, strips: Sequence[tuple[str, str, list[float]]]) -> None:
    axes = figure.add_subplot()
    names = []
    limit = min(1.0, 1.1 * max(score for _, _, scores in strips for score in scores) + 0.01)
    for height, (role, kind, scores) in enumerate(strips):
        # A fixed irrational step scatters the dots evenly and reproducibly.
        jitter = [height + ((position * 0.618034) % 1 - 0.5) * 0.5 for position in range(len(scores))]
        fill = COLOURS[role] if kind == "answers" else "none"
        axes.scatter(scores, jitter, s=9, facecolors=fill, edgecolors=COLOURS[role], linewidths=0.6, alpha=0.5)
        mean = sum(scores) / len(scores)
        axes.plot([mean, mean], [height - 0.36, height + 0.36], color=COLOURS["ink"], linewidth=1.8)
        axes.annotate(f"{mean:.2f}", (limit * 1.02, height), va="center", color=COLOURS["ink"], annotation_clip=False)
        names.append(f"{role}, {'true' if kind == 'answers' else 'inverted'}")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(-0.01 * limit, limit * 1.01), ylim=(len(strips) - 0.5, -0.5), xlabel="MEMO")
    axes.tick_params(axis="y", length=0)


def _curves(data: ReportData) -> Picture:
    """Plot loss parts per stage, and the probes during training."""
    panels = [panel for stage, rows in data.curves.items() for panel in _panels(stage, rows)]
    caption = (
        "What was logged while training, by optimizer step; MEMO on a sample of the forget set (callbacks.memo_facts)."
    )
    missing = "" if panels else "no stage logged a curve"
    size = (ACROSS, 2.2 * ((len(panels) + 1) // 2))
    title = "Training curves"
    return render(
        "curves", title, caption, missing=missing, size=size, draw=lambda figure: _draw_curves(figure, panels)
    )


def _panels(stage: str, rows: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, list[tuple[float, float]]]]]:
    """Collect title and curves of each panel of a stage: losses, then MEMO, then evaluation metrics."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if "step" in row and isinstance(value, int | float) and math.isfinite(value):
                series.setdefault(name, []).append((float(row["step"]), float(value)))
    panels = []
    for kind, shown in KINDS.items():
        chosen = {name: points for name, points in series.items() if fnmatch(name, shown[0]) and name not in shown[1:]}
        if kind == "loss" and len(chosen) == 2:
            del chosen["loss"]  # a loss with a single part equals that part
        if chosen:
            panels.append((f"{stage}: {kind}", chosen))
    return panels


# Panels by title: name patterns to include and to exclude. Shares and logarithms do not share an axis.
KINDS = {
    "loss": ("loss*",),
    "memo": ("memo/*", "memo/seconds"),
    "evaluation": (
        "eval/*", "eval/seconds", "eval/forget_quality_log10", "eval/forget/probability",
        "eval/forget/truth_ratio",
    ),
    "forget quality": ("eval/forget_quality_log10",),
}  # fmt: skip


def _draw_curves(figure: Figure, panels: Sequence[tuple[str, dict[str, list[tuple[float, float]]]]]) -> None:
    for position, (title, curves) in enumerate(panels, start=1):
        axes: Axes = figure.add_subplot((len(panels) + 1) // 2, 2, position)
        for index, (name, points) in enumerate(curves.items()):
            steps, values = zip(*points, strict=True)
            few = "o" if len(points) < 12 else None
            colour = COLOURS[f"curve{index % 5}"]
            axes.plot(steps, values, color=colour, label=name, linewidth=1.2, marker=few, markersize=3)
        axes.set_title(title, loc="left", fontsize=8.5, color=COLOURS["soft"])
        axes.legend(loc="best", fontsize=7.5)
        axes.set_xlabel("step")


def _first_reason(data: ReportData, names: Sequence[str]) -> str:
    """Explain why the first missing number of the unlearned model among ``names`` is missing."""
    absent = next((name for name in names if number(data.results, "unlearned", name) is None), names[0])
    return why_missing(data.results, "unlearned", absent)
