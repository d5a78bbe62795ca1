"""Who writes inverted facts: what one is asked, what comes back, and what every source of them can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from meow_lightning.types import Fact

ShouldContinue = Callable[[], bool]


class DatasetFacts(NamedTuple):
    """The facts of a dataset that a writer may look at: those to forget lend nothing, those to keep may."""

    forget: Sequence[Fact]
    retain: Sequence[Fact]


LoadFacts = Callable[[], DatasetFacts]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One question to a writer: answers to a fact's question that contradict the true one.

    Attributes:
        fact: What to contradict.
        attempt: How often this was asked before, from 0; another attempt is another draw.
        count: Answers wanted; ``None`` for all there are.
        previous_answers: Answers that are there already and shall not come again.
        model_answer: What the model that is to forget says now; ``None`` where nobody knows.
    """

    fact: Fact
    attempt: int
    count: int | None
    previous_answers: tuple[str, ...]
    model_answer: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationResponse:
    """What a writer gave for one question.

    Attributes:
        fact: ``Fact.id`` of what was asked.
        attempt: That of the question.
        answers: Its answers, where the writer tells them apart by itself; else ``None``.
        text: What a language model wrote, whole and raw; else ``None``.
        cut: Whether the text was cut off by its budget, so that its last answer may be half of one.
        requests: Requests sent for it, those that failed included; 0 where nothing is sent.
        prompt_tokens: Tokens that were read for it; 0 where nothing counts them.
        completion_tokens: Tokens that were written.
        refused: Why a server would not take the question, empty when it did.
    """

    fact: str
    attempt: int
    answers: tuple[str, ...] | None = None
    text: str | None = None
    cut: bool = False
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    refused: str = ""


class Writer:
    """A source of inverted facts; ``conf/inversion`` holds one file for each.

    Attributes:
        unkeyed_options: Options that say where and how fast, not what: they enter no key.
        runs_locally: Whether it computes itself, with the model that its option ``model`` names: then its work is
            spread over the processes of a job. Else the first process does all.
        borrows: Whether it reads kept facts: then these enter the key.
        paid: Whether a question costs something: then one that has a reply in the store is not put again.
        can_retry: Whether it can be asked again for other answers.
        max_requests: Most questions it may be asked, all rounds of a loop together; ``None`` for no bound.
        max_total_tokens: Most tokens it may read and write, all rounds of a loop together; ``None`` for no bound.
        version: Raised when the same options give other answers; subclasses inherit it, and it enters the key of the
            replies.
    """

    unkeyed_options: ClassVar[tuple[str, ...]] = ()
    runs_locally: ClassVar[bool] = False
    reads_other_facts: ClassVar[bool] = False
    paid: ClassVar[bool] = False
    can_retry: ClassVar[bool] = True
    version: ClassVar[int] = 1
    max_requests: int | None = None
    max_total_tokens: int | None = None

    def check(self) -> None:
        """Nothing, when it can be asked; called before anything is made.

        Raises:
            UserError: It cannot, with what to do.
        """

    def notes(self) -> tuple[str, ...]:
        """What a reader of what it wrote must know, a sentence each; known once it was asked."""
        return ()

    def write(
        self, asks: Sequence[GenerationRequest], *, load_facts: LoadFacts, should_continue: ShouldContinue
    ) -> Iterator[GenerationResponse]:
        """The reply to each question, each as soon as it is there, in any order; raw, cleaning comes after.

        Args:
            asks: Questions, each about another fact.
            load_facts: Gives all facts to forget and to keep; read only by who needs them.
            should_continue: Asked before each further question; once it says no, only what is under way still comes.

        Raises:
            UserError: It cannot go on; what came before stays.
        """
        raise NotImplementedError
