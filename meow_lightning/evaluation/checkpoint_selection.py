"""Rows set aside to choose an epoch, and which epoch is chosen: the numbers then count the other rows alone."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from meow_lightning.evaluation.metrics.forget_quality import SIGNIFICANCE
from meow_lightning.evaluation.metrics.model_utility import INPUTS
from meow_lightning.types import AnswerRow, Results

T = TypeVar("T")
MAX_EXCESS_RECALL = 0.10
"""How much more of the true answers than the retain model a model may say that forgot them."""

RECALL_METRICS = ("forget/value_accuracy", "forget/rouge_l_recall")
"""What tells how much is said; the first that there is."""

NUMBERS = ("model_utility", "forget_quality_log10", *RECALL_METRICS, *INPUTS)
"""The numbers that a choice depends on."""

TOLERANCE = 1e-6
"""Numbers closer than this are equal: what rounding makes of one number must not choose."""


def held_out(name: str, count: int, share: float) -> frozenset[int]:
    """Which rows of an evaluation set are set aside, by their place; the same for every model, method and seed.

    ``round(share * count)`` rows, but at least one, and at least one stays.

    Args:
        name: The set; each is drawn from by itself.
        count: Its rows.
        share: Share of them, 0 for none, below 1.
    """
    if share <= 0 or count < 2:
        return frozenset()
    number = min(max(1, round(share * count)), count - 1)
    return frozenset(random.Random(f"validation/{name}").sample(range(count), number))


def held_out_rows(name: str, rows: Sequence[T], share: float) -> list[T]:
    """The rows of a set that choose an epoch: those set aside, all of them where none are.

    Args:
        name: The set.
        rows: Its rows in order.
        share: Share of them.
    """
    chosen = held_out(name, len(rows), share)
    return [row for place, row in enumerate(rows) if place in chosen] if chosen else list(rows)


def numbered(rows: Sequence[AnswerRow]) -> list[AnswerRow]:
    """Rows of one set, numbered anew from 0.

    Args:
        rows: Some rows in order.
    """
    return [replace(row, index=index) for index, row in enumerate(rows)]


def remaining_rows(sets: Mapping[str, Sequence[AnswerRow]], share: float) -> list[AnswerRow]:
    """The rows of all sets that numbers are made of, numbered anew.

    Args:
        sets: Complete sets in order.
        share: Share of each that is set aside.
    """
    found: list[AnswerRow] = []
    for name, rows in sets.items():
        chosen = held_out(name, len(rows), share)
        found += numbered([row for place, row in enumerate(rows) if place not in chosen])
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """A model in training, as the rows set aside see it.

    Attributes:
        step: Optimizer steps done.
        utility: Model utility, 0 to 1.
        log10_p: Base-10 logarithm of forget quality.
        excess_recall: How much more of the forget set's answers it says than the retain model, -1 to 1: share of true
            values where facts mark them, else ROUGE-L recall.
    """

    step: int
    utility: float
    log10_p: float
    excess_recall: float

    @property
    def forgotten(self) -> bool:
        """Whether the facts are gone: forget quality p >= .05, and hardly more is said than by the retain model.

        p alone would not do: a test on few questions tells no difference while the model still says all it knew.
        """
        return self.excess_recall <= MAX_EXCESS_RECALL and self.log10_p >= math.log10(SIGNIFICANCE)


def summarize_epoch(results: Results, *, step: int) -> Epoch | None:
    """A model in training as its numbers have it; ``None`` where one of them is missing.

    Args:
        results: Numbers of the ``unlearned`` and the ``retain`` model on the rows set aside.
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
    """Whether a later epoch takes the place of the best so far.

    Forgotten goes before not forgotten, and of these, saying no more than the retain model before saying more. Among
    the forgotten the higher model utility wins, among those that say no more the higher forget quality, among the rest
    who says less; of equals the earlier one.

    Args:
        new: The later one.
        best: The best so far, if there is one.
    """
    if best is None:
        return True
    (tier, value), (best_tier, best_value) = _rank(new), _rank(best)
    return value > best_value + TOLERANCE if tier == best_tier else tier > best_tier


def _rank(each: Epoch) -> tuple[int, float]:
    if each.forgotten:
        return 2, each.utility
    return (1, each.log10_p) if each.excess_recall <= MAX_EXCESS_RECALL else (0, -each.excess_recall)
