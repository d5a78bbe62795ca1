"""The contract of an ability task of our own: a class that a file of ``conf/ability/`` names by ``_target_``.

Tasks without ``_target_`` are those of lm-evaluation-harness (:mod:`meow_lightning.evaluation.harness`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import ValidationError

from meow_lightning.config.instantiate import component_class, instantiate
from meow_lightning.config.mistakes import user_error
from meow_lightning.config.signature import argument_mistakes
from meow_lightning.errors import UserError
from meow_lightning.evaluation.ability import AbilityResult
from meow_lightning.evaluation.local_questions import LocalQuestions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from meow_lightning.data.prompting import PromptEncoder
    from meow_lightning.generation.batch_size import AdaptiveBatchSize

    Featurize = Callable[[Sequence[str]], NDArray[np.float32]]

TARGET = "_target_"
# Prompt settings of a model that only reads plain texts.
PLAIN_PROMPT = {"template": "{question}", "answer_prefix": "", "system": None, "date": None}
RUN_TARGET = "target"  # as `features`: the run's target model


class Length(NamedTuple):
    """Estimated tokens of one question of a task.

    Attributes:
        prompt: Tokens of its prompt.
        generated: Maximum number of new tokens.
    """

    prompt: int
    generated: int


class AbilityTask(ABC):
    """A task of general ability: questions from local files, a model's answers to them, and numbers.

    Attributes:
        version: Raised when the same options give other numbers.
        metrics: Names of its numbers.
        lower: Those of which lower values are better.
        packages: Distributions whose versions are part of its key.
        features: Model whose hidden states :meth:`result` needs: ``target``, a folder or a hub id; ``None`` for none.
    """

    version: ClassVar[int] = 1
    metrics: ClassVar[tuple[str, ...]]
    lower: ClassVar[tuple[str, ...]] = ()
    packages: tuple[str, ...] = ()
    features: str | None = None

    @property
    @abstractmethod
    def length(self) -> Length:
        """Estimated tokens of a question."""

    @abstractmethod
    def amount(self, files: LocalQuestions) -> int:
        """Estimate the number of questions in the files, without a tokenizer."""

    @abstractmethod
    def questions(self, files: LocalQuestions, encoder: PromptEncoder, limit: int | None) -> Sequence[Any]:
        """Build the questions.

        Args:
            files: Where they are.
            encoder: The model's tokens.
            limit: Maximum number; ``None`` for all.

        Raises:
            UserError: There is none, or the model cannot read them.
        """

    @abstractmethod
    def answer(
        self, model: Any, encoder: PromptEncoder, questions: Sequence[Any], *, slots: int | AdaptiveBatchSize
    ) -> Iterator[Any]:
        """Yield the answer to every question in order, each a dataclass of plain values.

        Args:
            model: A causal language model in evaluation mode.
            encoder: Its tokens.
            questions: Some questions; which ones are answered together does not depend on batch sizes or processes.
            slots: Prompts continued together; affects speed and memory, not the texts.
        """

    @abstractmethod
    def result(self, name: str, answers: Sequence[Mapping[str, Any]], featurize: Featurize | None) -> AbilityResult:
        """Compute the numbers.

        Args:
            name: Name of the task.
            answers: The stored answers, in order.
            featurize: Maps texts to vectors, (texts, dimensions); ``None`` without :attr:`features`.
        """


def own_task(option: str, definition: Mapping[str, Any], *, allow: Iterable[str]) -> AbilityTask:
    """Build the task that a definition names by ``_target_``.

    Args:
        option: Dotted name of the definition, for messages.
        definition: Its ``_target_`` and arguments.
        allow: Further packages that it may name (``trusted_packages``).

    Raises:
        UserError: The class is not an ability task, or an argument is invalid.
    """
    component = component_class(definition, allow=allow)
    arguments = {key: value for key, value in definition.items() if key != TARGET}
    mistakes = list(argument_mistakes(component, str(definition[TARGET]), arguments, provided=()))
    if mistakes:
        error = ValidationError.from_exception_data(option, [mistake.details() for mistake in mistakes])
        raise user_error(error, group=option)
    try:
        task = instantiate(definition, allow=allow)
    except UserError as error:  # a task names its options without knowing its own name
        raise UserError(f"{option}.{error}") from error
    if not isinstance(task, AbilityTask):
        raise UserError(f"{option}.{TARGET}={definition[TARGET]} is invalid: expected a subclass of AbilityTask")
    return task
