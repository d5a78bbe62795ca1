"""Checkpoint selection on held-out evaluation rows; the reported metrics then use only the remaining rows."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from meow_lightning.evaluation.metrics.forget_quality import SIGNIFICANCE
from meow_lightning.evaluation.metrics.model_utility import utility_inputs
from meow_lightning.types import AnswerRow, Results, SetInfo

T = TypeVar("T")
MAX_EXCESS_RECALL = 0.10
"""Largest excess recall over the retain model at which the facts still count as forgotten."""

RECALL_METRICS = ("forget/value_accuracy", "forget/rouge_l_recall")
"""Metrics that measure recall of the forget set; the first available one is used."""

TOLERANCE = 1e-6
"""Tolerance within which metrics count as equal, so that rounding does not decide the selection."""


def selection_metrics(sets: Sequence[SetInfo]) -> frozenset[str]:
    """Name the metrics that the selection depends on.

    Args:
        sets: The evaluation sets.
    """
    return frozenset(("model_utility", "forget_quality_log10", *RECALL_METRICS, *utility_inputs(sets)))


def held_out(name: str, count: int, share: float) -> frozenset[int]:
    """Draw the positions of an evaluation set's held-out rows; the same for every model, method and seed.

    ``round(share * count)`` rows are held out, but at least one, and at least one row remains.

    Args:
        name: Name of the set; each set has its own draw.
        count: Number of its rows.
        share: Share of the rows to hold out, 0 for none, below 1.
    """
    if share <= 0 or count < 2:
        return frozenset()
    number = min(max(1, round(share * count)), count - 1)
    return frozenset(random.Random(f"validation/{name}").sample(range(count), number))


def held_out_rows(name: str, rows: Sequence[T], share: float) -> list[T]:
    """Select the rows of a set for checkpoint selection: the held-out ones, or all rows if none are held out.

    Args:
        name: Name of the set.
        rows: Its rows in order.
        share: Share of the rows held out.
    """
    positions = held_out(name, len(rows), share)
    return [row for position, row in enumerate(rows) if position in positions] if positions else list(rows)


def numbered(rows: Sequence[AnswerRow]) -> list[AnswerRow]:
    """Renumber rows of one set from 0.

    Args:
        rows: Rows in order.
    """
    return [replace(row, index=index) for index, row in enumerate(rows)]


def remaining_rows(
    sets: Mapping[str, Sequence[AnswerRow]], share: float, *, complete: Mapping[str, Sequence[AnswerRow]] | None = None
) -> list[AnswerRow]:
    """Select the rows of all sets that the reported metrics use, renumbered.

    Args:
        sets: The sets in order.
        share: Share of each set that is held out.
        complete: The complete sets, of which these lack the questions that an attack cannot ask; ``None`` if these are
            complete.
    """
    remaining: list[AnswerRow] = []
    for name, rows in sets.items():
        every = rows if complete is None else complete[name]
        positions = held_out(name, len(every), share)
        if len(rows) == len(every):
            left = [row for position, row in enumerate(rows) if position not in positions]
        else:
            facts = {every[position].fact for position in positions}
            left = [row for row in rows if row.fact not in facts]
        remaining += numbered(left)
    return remaining


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Metrics of a checkpoint on the held-out rows.

    Attributes:
        step: Optimizer steps done.
        utility: Model utility, 0 to 1.
        log10_p: Base-10 logarithm of forget quality.
        excess_recall: Recall of the forget set's answers minus that of the retain model, -1 to 1: share of true values
            where facts mark them, ROUGE-L recall otherwise.
    """

    step: int
    utility: float
    log10_p: float
    excess_recall: float

    @property
    def forgotten(self) -> bool:
        """Whether the facts are forgotten: forget quality p >= .05 and hardly more recall than the retain model.

        p alone is not enough: on few questions the test has too little power to reject even a model that recalls
        every answer.
        """
        return self.excess_recall <= MAX_EXCESS_RECALL and self.log10_p >= math.log10(SIGNIFICANCE)


def summarize_epoch(results: Results, *, step: int) -> Epoch | None:
    """Summarise the metrics of a checkpoint; ``None`` if one of them is missing.

    Args:
        results: Metrics of the ``unlearned`` and the ``retain`` model on the held-out rows.
        step: Optimizer steps done.
    """
    unlearned, retain = results.values["unlearned"], results.values["retain"]
    excess_recall = [unlearned[name] - retain[name] for name in RECALL_METRICS if name in unlearned and name in retain]
    if not excess_recall or not {"model_utility", "forget_quality_log10"} <= set(unlearned):
        return None
    return Epoch(
        step=step,
        utility=unlearned["model_utility"],
        log10_p=unlearned["forget_quality_log10"],
        excess_recall=excess_recall[0],
    )


def is_better(new: Epoch, best: Epoch | None) -> bool:
    """Whether a later checkpoint replaces the best one so far.

    Checkpoints rank in three groups: forgotten; not forgotten but with hardly more recall than the retain model; the
    rest. Within them, higher model utility, higher forget quality and lower excess recall win, respectively; on ties
    the earlier checkpoint stays.

    Args:
        new: The later checkpoint.
        best: The best one so far, if any.
    """
    if best is None:
        return True
    (tier, value), (best_tier, best_value) = _rank(new), _rank(best)
    return value > best_value + TOLERANCE if tier == best_tier else tier > best_tier


def _rank(epoch: Epoch) -> tuple[int, float]:
    if epoch.forgotten:
        return 2, epoch.utility
    return (1, epoch.log10_p) if epoch.excess_recall <= MAX_EXCESS_RECALL else (0, -epoch.excess_recall)
