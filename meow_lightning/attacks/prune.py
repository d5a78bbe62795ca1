"""Structured pruning, without and with recovery on the retain set."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, get_args

from meow_lightning.attacks.base import AttackContext, ModelAttack
from meow_lightning.config.ranges import Count, Seed, Threshold
from meow_lightning.config.signature import checked_ranges
from meow_lightning.data.examples import Dataset, Example
from meow_lightning.errors import check_choice, invalid_option
from meow_lightning.models.latency import forward_milliseconds
from meow_lightning.models.pruning import (
    Importance,
    Part,
    best_units,
    find_units,
    importances,
    nearest_count,
    without_units,
)
from meow_lightning.types import Definition

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from meow_lightning.models.pruning import Units
    from meow_lightning.types import TokenBatch

PARAMETERS = Definition(
    name="model/parameters", id="parameters.1", unit="", direction="lower", text="Number of weights, shared ones once.",
    label="parameters", order=60, main=False,
)  # fmt: skip
LATENCY = Definition(
    name="model/latency", id="latency.1", unit="ms", direction="lower",
    text="Time of a forward pass over 128 tokens on the CPU of the stage, median of 5: another one in every run.",
    label="latency (ms)", order=61, main=False,
)  # fmt: skip


@checked_ranges("attacks")
class Prune(ModelAttack):
    """Remove the least important units of every layer, as many in each, so that the result is a plain smaller model.

    "LLM-Pruner", Ma, Fang and Wang 2023, arXiv 2305.11627; units, importance and what the model without them computes
    are those of :mod:`meow_lightning.models.pruning`. Importance is that for answers of the retain set. The published
    code keeps the first and last layers whole and stores a pickled module, since no config describes layers of
    different widths; it calibrates on book texts.

    Args:
        share: Share of the units of every layer to remove, 0 to below 1, rounded down. Fewer are removed where the
            architecture has no config for the rest: the number of Llama's heads divides the width of the model.
        parts: Parts of a layer to prune: ``mlp``, ``attention`` or both. Heads stay where the architecture derives
            their width from their number (GPT-2, GPT-NeoX).
        importance: ``first_order``, ``second_order`` or ``random``.
        calibration: Number of answers of the retain set that importance is computed on, drawn by the seed, 1 or more.
        seed: Seed of the draws.
    """

    replaces: ClassVar[bool] = True
    records: ClassVar[bool] = True
    version: ClassVar[int] = 1

    def __init__(
        self, *, share: Threshold, parts: Sequence[Part],
        importance: Importance, calibration: Count, seed: Seed,
    ) -> None:  # fmt: skip
        if not parts:
            raise invalid_option("attacks.parts", "[]", f"one or more of {', '.join(get_args(Part))}")
        for part in parts:
            check_choice("attacks.parts", part, get_args(Part))
        check_choice("attacks.importance", importance, get_args(Importance))
        self.share, self.parts, self.importance = share, frozenset(parts), importance
        self.calibration, self.seed = calibration, seed

    def rows(self, dataset: Dataset, seed: int) -> list[Example]:
        """Select the retain set, from which the calibration rows are drawn.

        Raises:
            UserError: It is empty, but importance reads it.
        """
        facts = dataset.facts("retain")
        if not facts and self.importance != "random":
            expected = f"random for dataset={dataset.name}, which has no facts to keep"
            raise invalid_option("attacks.importance", self.importance, expected)
        return [*facts]

    def transform_model(self, model: PreTrainedModel, ctx: AttackContext) -> PreTrainedModel:
        """Build the pruned model, and measure both."""
        pruned = self.prune(model, ctx)
        ctx.record(LATENCY, forward_milliseconds(model), forward_milliseconds(pruned))
        return pruned

    def prune(self, model: PreTrainedModel, ctx: AttackContext) -> PreTrainedModel:
        """Build the pruned model, and record its size."""
        units = {part: each for part, each in find_units(model).items() if part in self.parts}
        counts = {part: self._count(model, units, part) for part in units}
        for part in sorted(self.parts):
            ctx.warn(_kept(part, units, counts))
        scores = importances(model.eval(), self._calibration(ctx), units, kind=self.importance, seed=self.seed)
        kept = {part: [best_units(each, counts[part]) for each in scores[part]] for part in units}
        pruned = without_units(model, units, kept)
        ctx.record(PARAMETERS, model.num_parameters(), pruned.num_parameters())
        return pruned

    def _count(self, model: PreTrainedModel, units: Mapping[Part, Units], part: Part) -> int:
        count = units[part].count
        removed = math.floor(self.share * count + 1e-9)  # a share of .29 is less than 29 of 100 in binary
        return nearest_count(model.config, units, part, count - removed)

    def _calibration(self, ctx: AttackContext) -> Iterator[TokenBatch]:
        """Yield the calibration rows, one at a time, so that no other row has an effect on a gradient."""
        from meow_lightning.data.collate import collate

        rows = ctx.rows()
        chosen = random.Random(self.seed).sample(range(len(rows)), min(self.calibration, len(rows)))
        for place in sorted(chosen):
            yield collate([rows[place]], pad_id=0)


class PruneAndRecover(ModelAttack):
    """Prune a model, then train the pruned one on the retain set, with adapters where ``lora`` has a rank.

    Args:
        share: As of :class:`Prune`.
        parts: As of :class:`Prune`.
        importance: As of :class:`Prune`.
        calibration: As of :class:`Prune`.
        seed: As of :class:`Prune`.
    """

    trains: ClassVar[bool] = True
    replaces: ClassVar[bool] = True
    records: ClassVar[bool] = True
    version: ClassVar[int] = 1

    def __init__(
        self, *, share: Threshold, parts: Sequence[Part],
        importance: Importance, calibration: Count, seed: Seed,
    ) -> None:  # fmt: skip
        self._prune = Prune(share=share, parts=parts, importance=importance, calibration=calibration, seed=seed)

    def rows(self, dataset: Dataset, seed: int) -> list[Example]:
        """Select the retain set."""
        return self._prune.rows(dataset, seed)

    def transform_model(self, model: PreTrainedModel, ctx: AttackContext) -> PreTrainedModel:
        """Prune and train the model."""
        return ctx.train(self._prune.prune(model, ctx))


def _kept(part: Part, units: Mapping[Part, Units], counts: Mapping[Part, int]) -> str:
    """Describe how many units of a part are kept."""
    if part not in units:
        return "all heads are kept: the architecture derives their width from their number"
    grouped = units[part].config.get("num_attention_heads", 1) > 1
    heads = "groups of heads that share a key" if grouped else "heads"
    name = "feed-forward neurons" if part == "mlp" else heads
    return f"{counts[part]} of {units[part].count} {name} of every layer are kept"
