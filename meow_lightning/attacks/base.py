"""Base classes of every attack, on a model, on its prompts or on its hidden states, and what an attack receives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from meow_lightning.data.examples import Dataset, Example
from meow_lightning.types import Direction, Encoded, Role

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
    """An attack on a finished model: a :class:`ModelAttack`, a :class:`PromptAttack` or a :class:`LayerAttack`.

    Every model of a run is attacked alike, so that the retain model shows what the attack gives to a model that never
    saw the facts.

    Attributes:
        version: Increased when the same options give another model or another prompt; subclasses inherit it, and it is
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNumber:
    """A number that a :class:`LayerAttack` computes of every question, and reports as the mean over the questions.

    Attributes:
        name: Its name after that of the attack.
        id: See :class:`~meow_lightning.types.Definition`, likewise ``unit``, ``direction``, ``text`` and ``label``.
        uncounted: Why a question may not count, to complete "no question ...".
    """

    name: str
    id: str
    unit: str
    direction: Direction
    text: str
    label: str
    uncounted: str


class LayerAttack(BaseAttack, ABC):
    """An attack that reads the hidden states of a model at the words that carry a fact; the model stays as it is.

    Attributes:
        patches: Whether it puts the hidden states of every other model into the target model. The target model itself
            is then not read: its own states change nothing.
        unit: What :meth:`read` returns for each layer, in a few words.
        numbers: The numbers that :meth:`values` computes.
    """

    patches: ClassVar[bool] = False
    unit: ClassVar[str]
    numbers: ClassVar[tuple[LayerNumber, ...]]

    @abstractmethod
    def read(
        self, model: PreTrainedModel, rows: Sequence[Encoded], *, target: PreTrainedModel | None, pad_id: int,
        batch: int,
    ) -> Iterator[list[float]]:  # fmt: skip
        """Yield one number per decoder layer for every row, in order, the same for any batch size up to rounding.

        Args:
            model: The model to read, in evaluation mode.
            rows: Prompts with the tokens of the values, which are scored.
            target: The target model on the same device, for an attack that ``patches``; else ``None``.
            pad_id: Token id of padding.
            batch: Rows per forward pass.
        """

    @abstractmethod
    def values(self, role: Role, layers: Mapping[Role, Sequence[float]]) -> dict[str, float | None]:
        """Compute the numbers of one model on one question; ``None`` if the question does not count.

        A number that needs a model which the run lacks is left out.

        Args:
            role: The model.
            layers: What :meth:`read` returned for the question, by model.
        """
