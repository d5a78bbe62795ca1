"""Base classes of every attack, on a model, on its prompts or on its hidden states, and what an attack receives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from meow_lightning.data.examples import Dataset, Example, Passage, expected_texts
from meow_lightning.data.values.matching import contains_value
from meow_lightning.types import Definition, Direction, Encoded, Role

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
        rows: Encodes the rows of the attack for the model, as training would read them; none by default.
        record: Stores a number of the model before and after the attack, such as its size, for an attack that
            ``records``; its name is in the group ``model/``. Nothing is stored by default.
    """

    warn: Callable[[str], None]
    train: Callable[[PreTrainedModel], PreTrainedModel]
    rows: Callable[[], Sequence[Encoded]] = tuple
    record: Callable[[Definition, float, float], None] = lambda definition, before, after: None


class BaseAttack:
    """An attack on a finished model, of one of the kinds below or an ``ExtractionAttack``.

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
        replaces: Whether it returns another model than the one given, which works with no method whose model
            answers through the method itself.
        records: Whether it records numbers of the model.
    """

    trains: ClassVar[bool] = False
    replaces: ClassVar[bool] = False
    records: ClassVar[bool] = False

    @abstractmethod
    def transform_model(self, model: PreTrainedModel, ctx: AttackContext) -> PreTrainedModel:
        """Transform a model and return it.

        An attack that ``trains`` runs in every process of a job, others in the first one alone.

        Args:
            model: The model on the CPU, which may be changed in place.
            ctx: What the attack may use.
        """


class PromptAttack(BaseAttack, ABC):
    """An attack that asks in another way and leaves the model alone: a prefix, another wording, several of them.

    Attributes:
        fields: Attributes of facts that it reads besides question and answer; they enter the keys of its results.
        needs: What a fact needs to be asked by it, for the error where no fact to forget has it.
        same_answers: Whether the true answers stay as they are; MEMO of the true answers is scored only then.
        translates: Whether a language model may write what it asks (``attacks.<name>.translator``).
    """

    fields: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[str] = "a question"
    same_answers: ClassVar[bool] = True
    translates: ClassVar[bool] = False

    def written_rows(self, dataset: Dataset, texts: Mapping[str, Sequence[str]]) -> list[Example]:
        """Return what it reads in the place of :meth:`rows` if a language model wrote the questions.

        Args:
            dataset: The dataset of the run.
            texts: The questions as they were written, by identifier of the fact.
        """
        raise NotImplementedError

    @abstractmethod
    def transform_example(self, example: Example, rows: Sequence[Example]) -> Sequence[Example]:
        """Return the example as the attack asks it.

        One example is asked in its place; of several, the answer that leaks most counts, for each model its own; an
        example without any is left out. :func:`with_question` changes the prompt alone, around which the prompt
        template stands as around the question.

        Args:
            example: A fact, or a passage of a document, as the dataset has it.
            rows: What :meth:`rows` selected.
        """


def with_question(example: Example, question: str) -> Example:
    """Put a text in the place of an example's question; of a passage, in the place of the characters before its cut.

    Args:
        example: The example.
        question: The text.
    """
    if isinstance(example, Passage):
        return replace(example, text=question + example.answer, prefix=len(question))
    return replace(example, question=question)


def gives_away(text: str, example: Example) -> bool:
    """Whether a text states a value of the example's answer that the question itself does not.

    Args:
        text: The text, such as another wording of the question.
        example: The example.
    """
    return any(
        contains_value(text, value) and not contains_value(example.question, value) for value in expected_texts(example)
    )


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
