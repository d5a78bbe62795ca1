"""Comparison of memorization measures in a sweep: their values for every model, and the agreement of their picks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meow_lightning.report.data import DASH, ROLE_NAMES, format_value, number
from meow_lightning.report.sweep_tables import Swept, Table, by_row
from meow_lightning.types import ROLES

ANSWERS, CANDIDATES = "memo/answers", "memo/candidates"
RUN = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picks:
    """The inverted facts that a run selected.

    Attributes:
        taken: Selected candidate positions by fact.
        available: Number of candidates by fact, at least 1.
    """

    taken: Mapping[str, Sequence[int]]
    available: Mapping[str, int]


def measures(runs: Sequence[Swept], picks: Mapping[str, Picks]) -> Table | None:
    """Compare measures by their mean values over seeds and their picks; ``None`` if a sweep has only one measure.

    Args:
        runs: All finished runs.
        picks: The picks of each run, by its name; runs that select nothing are left out.
    """
    if not several(runs):
        return None
    firsts: dict[tuple[tuple[str, str], ...], Swept] = {}
    for run in runs:
        firsts.setdefault(_other_options(run), run)
    groups = by_row((run.name, run) for run in runs)
    first = " ".join(f"{option}={value}" for option, value in runs[0].words.items() if _of_measure(option))
    head = [RUN, *(f"true answers, {ROLE_NAMES[role]}" for role in ROLES)]
    rows = [[*head, f"inverted answers, {ROLE_NAMES['target']}", f"picks shared with {first}"]]
    for name, group in groups.items():
        answers = [_mean(group, role, ANSWERS) for role in ROLES]
        pairs = [
            (picks[run.name], picks[other.name])
            for run in group
            if run.name in picks and (other := firsts[_other_options(run)]).name in picks
        ]
        rows.append([name, *answers, _mean(group, "target", CANDIDATES), _agreement(pairs)])
    return "memorization measures (means over seeds)", rows


def several(runs: Iterable[Swept]) -> bool:
    """Whether a sweep covers more than one measure."""
    return len({tuple(_measure(run)) for run in runs}) > 1


def shared(one: Picks, other: Picks) -> tuple[int, float, int]:
    """Count (candidates in both, expected by chance, candidates of the first), over common facts.

    In both: ``sum_f |A_f ∩ B_f|``; by chance, if one is drawn at random: ``sum_f |A_f| |B_f| / n_f``.
    """
    facts = [fact for fact in one.taken if fact in other.taken]
    both = sum(len({*one.taken[fact]} & {*other.taken[fact]}) for fact in facts)
    chance = sum(len(one.taken[fact]) * len(other.taken[fact]) / one.available[fact] for fact in facts)
    return both, chance, sum(len(one.taken[fact]) for fact in facts)


def _agreement(pairs: Sequence[tuple[Picks, Picks]]) -> str:
    """Format the average number of shared candidates per fact over all pairs; a dash without any."""
    counts = [shared(one, other) for one, other in pairs]
    facts = sum(len(one.taken) for one, _ in pairs)
    if not facts:
        return DASH
    both, chance, taken = (sum(column) / facts for column in zip(*counts, strict=True))
    return f"{both:.1f} of {taken:.1f} ({chance:.1f} by chance)"


def _mean(runs: Iterable[Swept], role: str, name: str) -> str:
    known = [value for run in runs if (value := number(run.results, role, name)) is not None]
    return format_value(name, sum(known) / len(known)) if known else DASH


def _measure(run: Swept) -> list[tuple[str, str]]:
    return [(option, value) for option, value in run.words.items() if _of_measure(option)]


def _other_options(run: Swept) -> tuple[tuple[str, str], ...]:
    """Collect a run's options without those of its measure; equal in runs that differ only in the measure."""
    return tuple((option, value) for option, value in run.words.items() if not _of_measure(option))


def _of_measure(option: str) -> bool:
    return option.partition(".")[0] == "memo" and option != "memo.verify"
