"""Relearning: a little further training, after which facts that were only hidden come back."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, ClassVar, Literal

from meow_lightning.attacks.base import AttackContext, ModelAttack
from meow_lightning.config.ranges import Probability
from meow_lightning.config.signature import checked_ranges
from meow_lightning.data.examples import Dataset, Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@checked_ranges("attacks")
class Relearn(ModelAttack):
    """Fine-tune a model on forgotten facts, or on kept ones.

    Args:
        data: The facts to train on: ``forget``, or ``retain`` for training that is not aimed at the forgotten facts.
        share: Share of these facts, drawn by the seed, above 0 to 1. With less than all facts to forget, the others
            show whether training on some of them brings back the rest.
    """

    trains: ClassVar[bool] = True
    version: ClassVar[int] = 1

    def __init__(self, *, data: Literal["forget", "retain"], share: Probability) -> None:
        self.data, self.share = data, share

    def rows(self, dataset: Dataset, seed: int) -> list[Example]:
        """Draw the facts, at least one, in the order of the dataset."""
        facts = dataset.facts(self.data)
        count = min(len(facts), max(1, round(self.share * len(facts))))
        return [facts[place] for place in sorted(random.Random(seed).sample(range(len(facts)), count))]

    def transform_model(self, model: PreTrainedModel, ctx: AttackContext) -> PreTrainedModel:
        """Train the model on these facts."""
        return ctx.train(model)
