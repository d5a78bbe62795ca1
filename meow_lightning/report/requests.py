"""The section on requests to forget that arrive one after another: matrices as heat maps and tables, and a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from meow_lightning.evaluation.sequence import Cells, ScoreMatrix, SequenceScores, sequence_numbers
from meow_lightning.report.data import DASH, readable_name
from meow_lightning.report.svg import COLOURS, WIDTH, Picture, render
from meow_lightning.report.templating import render_template

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Requests one after another"
MANY = 8  # requests of which the terminal no longer shows every one
PALEST, DARKEST = 0.04, 0.72  # opacity of 0 and of 1: numbers stay readable on both
LEGEND = (
    "A row is a model, the start model first; a column is the facts of one request, then OP and BWT over the requests "
    "served so far, and collateral, the change of those not requested yet. Forgotten: 1 minus the score, higher is "
    "better. BWT below 0: what was forgotten came back while later requests were served. Kept: the mean change over "
    "the sets to be kept since the start; 0 is right. The retain model never saw any of the facts."
)


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """What the page says of a request: its number of facts, and the names of its groups if facts may be shown."""

    facts: int
    groups: Sequence[str]


@dataclass(frozen=True, slots=True)
class RequestLines:
    """What the terminal shows of the requests: the title of a table, its rows with header, and a sentence."""

    title: str
    table: list[list[str]]
    sentence: str


def sentence(sequence: Sequence[SequenceScores]) -> str:
    """Summarize what is forgotten, what came back and what is kept, one after another and all at once."""
    first, kept = sequence[0], _first_kept(sequence)
    numbers = sequence_numbers(first)
    text = (
        f"{len(first.forgotten.columns)} requests one after another: forgotten (1 - {first.label}) "
        f"{_share(numbers['op'])}, all at once {_share(numbers['joint_op'])}; BWT {_change(numbers['bwt'])}, largest "
        f"re-emergence {_share(numbers['reemergence'])}"
    )
    if kept is None:
        return text
    numbers = sequence_numbers(kept)
    return (
        f"{text}; kept ({kept.label}) {_change(numbers['utility_delta'])}, all at once "
        f"{_change(numbers['joint_utility_delta'])}"
    )


def table(scores: SequenceScores, *, kept: SequenceScores | None, cells: bool = True) -> list[list[str]]:
    """Build a header and one row per model: every request, OP, BWT, collateral, and the change of what is kept.

    Args:
        scores: The matrices of one score.
        kept: Those whose sets to be kept are shown; ``None`` for none.
        cells: Whether every request has a column.
    """
    forgotten = scores.forgotten
    numbers = [str(number) for number in range(1, len(forgotten.columns) + 1)] if cells else []
    sets = None if kept is None else kept.kept
    rows = [["", *numbers, "OP", "BWT", "collateral", *([] if kept is None else ["kept"])]]
    last = len(forgotten.rows) - 1
    for t, row in enumerate(forgotten.rows):
        about = [
            _share(forgotten.op(t)) if t else DASH,
            _change(forgotten.bwt(t)) if t else DASH,
            _change(forgotten.collateral(t)) if 0 < t < last else DASH,
        ]
        about += [] if sets is None else [_change(sets.delta(t)) if t else DASH]
        rows.append([_model(t), *map(_share, row if cells else ()), *about])
    for name, beside, kept_row in _beside(forgotten, sets):
        mean = [cell for cell in beside if cell is not None]
        about = [_share(sum(mean) / len(mean) if mean else None), DASH, DASH]
        about += [] if sets is None else [_change(sets.against_start(kept_row))]
        rows.append([name, *map(_share, beside if cells else ()), *about])
    return rows


def closing_lines(sequence: Sequence[SequenceScores]) -> RequestLines:
    """Build what the terminal shows."""
    first = sequence[0]
    few = len(first.forgotten.columns) <= MANY
    kept = _first_kept(sequence)
    title = f"Requests (forgotten: 1 - {first.label}" + (f"; kept: {kept.label})" if kept else ")")
    return RequestLines(title, table(first, kept=kept, cells=few), sentence(sequence))


def section(sequence: Sequence[SequenceScores], served: Sequence[ServedRequest], drawn: Picture) -> Markup:
    """Render the section as HTML, numbers and names of groups only; empty without requests.

    Args:
        sequence: The matrices of every score.
        served: The requests.
        drawn: Their :func:`picture`.
    """
    if not sequence:
        return Markup("")
    return render_template(
        "requests.html", title=TITLE, sentence=sentence(sequence), served=served, legend=LEGEND, picture=drawn,
        tables=[(each.label, table(each, kept=each if each.kept else None)) for each in sequence],
    )  # fmt: skip


def picture(sequence: Sequence[SequenceScores]) -> Picture:
    """Draw what is forgotten and what is kept after every request; without requests, give the reason."""
    title = "Forgotten and kept after every request"
    if not sequence:
        missing = "all facts are forgotten at once"
        return render("requests", title, "", missing=missing, size=(2 * WIDTH, 3), draw=lambda figure: None)
    first, kept = sequence[0], _first_kept(sequence)
    caption = (
        f"Each row is a model. Left: 1 - {first.label} of the facts of every request, higher is more forgotten; framed "
        "right after their request. To the right of a frame lies what was not requested yet, and should be pale; below "
        "it, what should stay dark."
    )
    caption += "" if kept is None else f" Right: {kept.label} of the sets to be kept, which should stay as it was."
    rows = len(first.forgotten.rows) + 2
    return render(
        "requests", title, caption, missing="", size=(2 * WIDTH, 0.8 + 0.3 * rows),
        draw=lambda figure: _draw(figure, first, kept),
    )  # fmt: skip


def _first_kept(sequence: Sequence[SequenceScores]) -> SequenceScores | None:
    return next((each for each in sequence if each.kept is not None), None)


def _model(t: int) -> str:
    return f"after request {t}" if t else "before"


def _beside(forgotten: ScoreMatrix, kept: ScoreMatrix | None) -> list[tuple[str, Cells, Cells]]:
    """List the models beside the sequence: name, what is forgotten, what is kept."""
    rows = [("all at once", forgotten.joint, () if kept is None else kept.joint)]
    if forgotten.retain is not None:
        rows.append(("retain model", forgotten.retain, () if kept is None else kept.retain or ()))
    return rows


def _draw(figure: Figure, first: SequenceScores, kept: SequenceScores | None) -> None:
    forgotten, sets = first.forgotten, None if kept is None else kept.kept
    widths = [len(forgotten.columns), *([] if sets is None else [len(sets.columns)])]
    panels = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    beside = _beside(forgotten, sets)
    _heat(panels[0], [*forgotten.rows, *(row for _, row, _ in beside)], framed=len(forgotten.rows) - 1)
    panels[0].set_xticks(range(len(forgotten.columns)), [str(n + 1) for n in range(len(forgotten.columns))])
    panels[0].set_xlabel("request")
    names = [*map(_model, range(len(forgotten.rows))), *(name for name, _, _ in beside)]
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_title(f"forgotten: 1 - {first.label}", loc="left", fontsize=8.5, color=COLOURS["soft"])
    if sets is None or kept is None:
        return
    _heat(panels[1], [*sets.rows, *(row for _, _, row in beside)], framed=0)
    panels[1].set_xticks(range(len(sets.columns)), [readable_name(name) for name in sets.columns])
    panels[1].set_yticks([])
    panels[1].set_title(f"kept: {kept.label}", loc="left", fontsize=8.5, color=COLOURS["soft"])


def _heat(axes: Axes, rows: Sequence[Cells], *, framed: int) -> None:
    """Draw a cell per score, darker for higher ones, and frame as many cells of the diagonal below the first row."""
    from matplotlib.patches import Rectangle

    for height, row in enumerate(rows):
        for place, cell in enumerate(row):
            if cell is not None:
                opacity = PALEST + (DARKEST - PALEST) * min(max(cell, 0.0), 1.0)
                corner = (place - 0.48, height - 0.46)
                axes.add_patch(Rectangle(corner, 0.96, 0.92, color=COLOURS["unlearned"], alpha=opacity, linewidth=0))
            text = DASH if cell is None else f"{cell:.2f}"
            axes.annotate(text, (place, height), ha="center", va="center", color=COLOURS["ink"], fontsize=7.5)
    for place in range(framed):
        corner = (place - 0.48, place + 1 - 0.46)
        axes.add_patch(Rectangle(corner, 0.96, 0.92, fill=False, edgecolor=COLOURS["ink"], linewidth=0.9))
    axes.set(xlim=(-0.5, max(map(len, rows)) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def _share(value: float | None) -> str:
    return DASH if value is None else f"{value:.2f}"


def _change(value: float | None) -> str:
    """Format a change with its sign; one that rounds to 0 has none."""
    if value is None:
        return DASH
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text
