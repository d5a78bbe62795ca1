"""Base class and defaults of every attack, and what an attack receives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from meow_lightning.data.examples import Dataset, Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackContext:
    """What an attack may use besides the model.

    Attributes:
        warn: Records a message for the user.
        train: Fine-tunes the model on the rows of the attack with the recipe of its configuration, and returns it. It
            resumes after a kill, and gives the same weights for any micro-batch size and number of processes. Only for
            an attack that ``trains``.
    """

    warn: Callable[[str], None]
    train: Callable[[PreTrainedModel], PreTrainedModel]


class BaseAttack(ABC):
    """An attack on a finished model.

    Every model of a run is attacked alike, so that the retain model shows what the attack gives to a model that never
    saw the facts.

    Attributes:
        trains: Whether it trains the model further. Its configuration then holds a recipe: ``lr``, ``epochs``,
            ``global_batch_size`` and the settings of AdamW.
        version: Increased when the same options give another model; subclasses inherit it, and it is part of the
            attacked model's key.
    """

    trains: ClassVar[bool] = False
    version: ClassVar[int] = 1

    def rows(self, dataset: Dataset, seed: int) -> list[Example]:
        """Select the facts that further training reads; none by default.

        Args:
            dataset: The dataset of the run.
            seed: Seed of the run.
        """
        return []

    @abstractmethod
    def transform_model(self, model: PreTrainedModel, ctx: AttackContext) -> PreTrainedModel:
        """Transform a model and return it.

        An attack that ``trains`` runs in every process of a job, others in the first one alone.

        Args:
            model: The model on the CPU, which may be changed in place.
            ctx: What the attack may use.
        """
