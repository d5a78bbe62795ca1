"""Interface of the sources of inverted facts: requests, responses and the ``Writer`` base class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from meow_lightning.types import Fact

ShouldContinue = Callable[[], bool]


class DatasetFacts(NamedTuple):
    """Facts of a dataset available to a writer; only retained facts may supply values for other answers."""

    forget: Sequence[Fact]
    retain: Sequence[Fact]


LoadFacts = Callable[[], DatasetFacts]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """Request for answers to a fact's question that contradict the true one.

    Attributes:
        fact: What to contradict.
        attempt: Number of earlier requests for this fact, from 0; each attempt draws anew.
        count: Number of answers wanted; ``None`` for all available ones.
        previous_answers: Existing answers, which should not be repeated.
        model_answer: Current answer of the model to be unlearned; ``None`` if unknown.
    """

    fact: Fact
    attempt: int
    count: int | None
    previous_answers: tuple[str, ...]
    model_answer: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationResponse:
    """Response of a writer to one request.

    Attributes:
        fact: ``Fact.id`` of the request.
        attempt: Attempt number of the request.
        answers: Separate answers, if the writer provides them; else ``None``.
        text: Raw text of a language model; else ``None``.
        cut: Whether the token budget truncated the text, so that its last answer may be incomplete.
        requests: HTTP requests sent, failed ones included; 0 if none are needed.
        prompt_tokens: Prompt tokens; 0 if not counted.
        completion_tokens: Generated tokens.
        refused: Reason why the request was rejected; empty if it was accepted.
        rejected: Answers that the writer itself dropped: (reason, text).
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
    rejected: tuple[tuple[str, str], ...] = ()


class Writer:
    """Base class of the sources of inverted facts; each has a file in ``conf/inversion``.

    Attributes:
        unkeyed_options: Options that affect only where and how fast it runs, not the result; excluded from cache keys.
        runs_locally: Whether it runs a model in this job; the work is then distributed over the job's processes.
            Otherwise the first process does all of it.
        samples: That model: the one that its option ``model`` names, or the run's ``base`` or ``target`` model.
        reads_other_facts: Whether it reads retained facts, which then enter the cache key.
        paid: Whether requests cost money; requests with a stored response are then never sent again.
        can_retry: Whether another request can give other answers.
        max_requests: Limit on requests over all rounds; ``None`` for no limit.
        max_total_tokens: Limit on prompt and generated tokens over all rounds; ``None`` for no limit.
        version: Incremented when the same options give other answers; subclasses inherit it, and it enters the cache
            key of the responses.
    """

    unkeyed_options: ClassVar[tuple[str, ...]] = ()
    runs_locally: ClassVar[bool] = False
    samples: ClassVar[Literal["named", "base", "target"]] = "named"
    reads_other_facts: ClassVar[bool] = False
    paid: ClassVar[bool] = False
    can_retry: ClassVar[bool] = True
    version: ClassVar[int] = 1
    max_requests: int | None = None
    max_total_tokens: int | None = None

    def check(self) -> None:
        """Check that the writer is usable; called before anything is computed.

        Raises:
            UserError: It is not usable; the message says what to do.
        """

    def load(self) -> None:
        """Load the model that it runs, if it runs one, so that free memory can be measured with it in place.

        Raises:
            UserError: It cannot be loaded.
        """

    def notes(self) -> tuple[str, ...]:
        """Caveats about the written answers, one sentence each; available after :meth:`write`."""
        return ()

    def write(
        self, requests: Sequence[GenerationRequest], *, load_facts: LoadFacts, should_continue: ShouldContinue
    ) -> Iterator[GenerationResponse]:
        """Yield the response to each request as soon as it is available, in any order and unfiltered.

        Args:
            requests: At most one per fact.
            load_facts: Loads all forget and retain facts; called only by writers that need them.
            should_continue: Called before each request; once it returns false, only pending responses are yielded.

        Raises:
            UserError: The writer cannot continue; responses yielded before remain valid.
        """
        raise NotImplementedError
