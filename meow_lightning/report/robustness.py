"""The section on attacks: the numbers of every model before and after them, and a picture of the changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meow_lightning.evaluation.attack_numbers import is_about_model
from meow_lightning.evaluation.relearning import BEFORE, RTT, UNTRAINED
from meow_lightning.evaluation.robustness import RECOVERED, change_name
from meow_lightning.evaluation.subject import Subject
from meow_lightning.report.data import DASH, ROLE_NAMES, ReportData, around_attack, arrow, format_value, label, number
from meow_lightning.report.svg import COLOURS, WIDTH, Picture, render
from meow_lightning.report.traces import ERASED, VALUES, recovered
from meow_lightning.types import ROLES, Results, Role

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {"recovered": "recovered", "robustness": "R", "stability": "Q"}  # columns about the change, with their heads
LEGEND = (
    "recovered: share of what unlearning removed that the attack brings back. R: 1 if the attack moves the unlearned "
    "and the retain model alike, 0 if only one of them. Q: 1 if the unlearned model's number stays. The retain model "
    "shows what the attack gives to a model that never saw the facts."
)
SUMMARY_LEGEND = (
    "share left: 0 as much as the retain model shows in the same way, 1 as much as the target model; above one half, "
    "the verdict says that the facts are still there. RTT: share of what unlearning removed that comes back of the "
    "facts that the attack did not train on. Further numbers are below, intervals in the table of numbers."
)
Change = tuple[Role, float, float]  # a model's number before and after an attack


def measured(results: Results) -> list[str]:
    """List the numbers whose change under attacks is shown: those that any model has."""
    return [
        name for name in RECOVERED if any(number(results, role, name) is not None for role in ROLES)
    ]  # fmt: skip


def attack_table(results: Results, condition: str) -> list[list[str]]:
    """Build a header and one row per number: every model before and after an attack, and what the change means.

    Args:
        results: The numbers of a run.
        condition: Name of the attack.
    """
    table = [["", *ROLES, *KINDS.values()]]
    about_model = [
        name for name in results.values.get(str(Subject("unlearned", condition)), {}) if is_about_model(name)
    ]
    for name in [*measured(results), *about_model]:
        moved = {role: around_attack(results, role, condition, name) for role in ROLES}
        cells = [
            DASH if ends is None else " → ".join(format_value(name, end) for end in ends) for ends in moved.values()
        ]
        about = [number(results, str(Subject("unlearned", condition)), change_name(kind, name)) for kind in KINDS]
        shares = [DASH if value is None else f"{value:.2f}" for value in about]
        table.append([f"{label(results, name)} {arrow(results, name)}".rstrip(), *cells, *shares])
    return table


def attack_tables(results: Results) -> list[tuple[str, list[list[str]]]]:
    """Build (title, rows with header) of every attack; none for a run without attacks."""
    return [
        (f"{text[:1].upper()}{text[1:]}", attack_table(results, condition))
        for condition, text in results.conditions.items()
    ]


def summary_table(results: Results) -> list[list[str]]:
    """Build a header and one line per attack: what every model shows, and how much of the facts is left.

    A line about an attack on models or prompts shows the share of answers that state the true value, before and after
    it; one about hidden states what they lack of the facts.

    Args:
        results: The numbers of a run.
    """
    lines, left = [], recovered(results)
    for condition, text in results.conditions.items():
        moved = [around_attack(results, role, condition, VALUES) for role in ROLES]
        cells = [DASH if ends is None else " → ".join(format_value(VALUES, end) for end in ends) for ends in moved]
        share = f"{left[condition].share:.2f}" if condition in left else DASH
        lines.append([f"{text}: {label(results, VALUES)} {arrow(results, VALUES)}".rstrip(), *cells, share])
        lines += _untrained_line(results, condition)
    for known in results.definitions:
        if known.metric in ERASED:
            values = [number(results, role, known.name) for role in ROLES]
            cells = [DASH if value is None else format_value(known.name, value) for value in values]
            erased = number(results, "unlearned", known.name)
            share = DASH if erased is None else f"{1 - erased:.2f}"
            lines.append([f"{known.label} {arrow(results, known.name)}".rstrip(), *cells, share])
    return [["", *ROLES, "share left"], *lines] if lines else []


def _untrained_line(results: Results, condition: str) -> list[list[str]]:
    """Build the line of facts that an attack did not train on; none if it trained on all or on no fact to forget."""
    cells = []
    for role in ROLES:
        ends = [number(results, str(Subject(role, condition)), name) for name in (BEFORE, UNTRAINED)]
        cells.append(DASH if None in ends else " → ".join(format_value(UNTRAINED, end or 0.0) for end in ends))
    recovered_share = number(results, str(Subject("unlearned", condition)), RTT)
    share = DASH if recovered_share is None else f"{recovered_share:.2f}"
    known = any(cell != DASH for cell in cells)
    return [[f"{results.conditions[condition]}: {label(results, UNTRAINED)} ↓ (RTT)", *cells, share]] * known


def attack_picture(data: ReportData) -> Picture:
    """Plot every model's numbers before and after the attacks."""
    panels = [
        (label(data.results, name), [
            (text, _changes(data.results, condition, name)) for condition, text in data.results.conditions.items()
        ])
        for name in measured(data.results) if data.results.conditions
    ]  # fmt: skip
    caption = (
        "Each line is a model: hollow before the attack, filled after it. An unlearned model that moves away from the "
        "retain model had hidden what it seemed to have forgotten."
    )
    rows = len(data.results.conditions) * len(ROLES)
    missing = "" if panels else "no number was measured after attacks"
    return render(
        "attacks", "Before and after attacks", caption, missing=missing,
        size=(2 * WIDTH, (0.9 + 0.22 * rows) * -(-len(panels) // 2)), draw=lambda figure: _draw(figure, panels),
    )  # fmt: skip


def _changes(results: Results, condition: str, name: str) -> list[Change]:
    ends = [(role, around_attack(results, role, condition, name)) for role in ROLES]
    return [(role, *each) for role, each in ends if each is not None]


def _draw(figure: Figure, panels: Sequence[tuple[str, Sequence[tuple[str, Sequence[Change]]]]]) -> None:
    for position, (title, conditions) in enumerate(panels, start=1):
        axes = figure.add_subplot(-(-len(panels) // 2), 2, position)
        places, height = [], 0.0
        for _, changes in conditions:
            places.append(height + 0.5 * (len(ROLES) - 1))
            for role, before, after in changes:
                at, colour = height + ROLES.index(role), COLOURS[role]
                axes.plot([before, after], [at, at], color=colour, linewidth=1.4)
                axes.scatter([before], [at], s=26, facecolors="none", edgecolors=colour)
                axes.scatter([after], [at], s=26, color=colour, label=ROLE_NAMES[role] if height == 0 else None)
            height += len(ROLES) + 0.8
        axes.set_yticks(places, [text for text, _ in conditions])
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(-0.03, 1.03), ylim=(height - 0.8, -0.8))
        axes.set_title(title, loc="left", fontsize=8.5, color=COLOURS["soft"])
        if position == 1:
            axes.legend(loc="best", fontsize=7.5)
