"""Base classes of every attack, on a model or on its prompts, and what an attack receives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
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


class BaseAttack:
    """An attack on a finished model: a :class:`ModelAttack`, a :class:`PromptAttack` or an ``ExtractionAttack``.

    Every model of a run is attacked alike, so that the retain model shows what the attack gives to a model that never
    saw the facts.

    Attributes:
        version: Increased when the same options give another model, prompt or number; subclasses inherit it, and it is
            part of the keys of what is computed under the attack.
    """

    version: ClassVar[int] = 1

    def rows(self, dataset: Dataset, seed: int) -> list[Example]:
        """Select the examples that the attack reads; none by default.

        Args:
            dataset: The dataset of the run.
            seed: Seed of the run.
        """
        return []


class ModelAttack(BaseAttack, ABC):
    """An attack that transforms the model: further training, rounding, pruning.

    Attributes:
        trains: Whether it trains the model further, on its :meth:`rows`. Its configuration then holds a recipe: ``lr``,
            ``epochs``, ``global_batch_size`` and the settings of AdamW.
    """

    trains: ClassVar[bool] = False

    @abstractmethod
    def transform_model(self, model: PreTrainedModel, ctx: AttackContext) -> PreTrainedModel:
        """Transform a model and return it.

        An attack that ``trains`` runs in every process of a job, others in the first one alone.

        Args:
            model: The model on the CPU, which may be changed in place.
            ctx: What the attack may use.
        """


class PromptAttack(BaseAttack, ABC):
    """An attack that transforms the prompt and leaves the model alone: a prefix, another wording."""

    @abstractmethod
    def transform_prompt(self, question: str, rows: Sequence[Example]) -> str:
        """Return the text that stands in the prompt in the place of a question.

        The prompt template surrounds it as it surrounds the question; of a passage of a document, it takes the place of
        the characters before the cut. Answers, and what metrics compare them with, stay as they are.

        Args:
            question: The question, or the characters of a passage before its cut.
            rows: What :meth:`rows` selected.
        """
