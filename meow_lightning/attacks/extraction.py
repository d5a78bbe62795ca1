"""Base class of extraction attacks, and the record of their attempts on each fact."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from meow_lightning.attacks.base import BaseAttack
from meow_lightning.data.examples import Example, expected_texts
from meow_lightning.types import Direction

if TYPE_CHECKING:
    from meow_lightning.attacks.proposer import Proposer
    from meow_lightning.attacks.victim import Victim

Overlap = Callable[[str, str], float]
"""ROUGE-L recall: the share of the words of the first text that the second has in the same order, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One prompt to the model and what it said.

    Attributes:
        arm: What it belongs to, such as the attack itself or a baseline.
        prompt: What stood in the place of the question; empty for the question itself.
        text: The model's text.
    """

    arm: str
    prompt: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """All attempts on one fact.

    Attributes:
        fact: Identifier of the fact or passage.
        question: Its question.
        answer: Its true answer.
        expected: Texts each of which gives the fact away; empty if the dataset marks none.
        attempts: The attempts, in order.
    """

    fact: str
    question: str
    answer: str
    expected: tuple[str, ...]
    attempts: tuple[Attempt, ...]

    def of(self, arm: str) -> list[Attempt]:
        """List the attempts of one arm, in order."""
        return [each for each in self.attempts if each.arm == arm]

    @classmethod
    def of_fact(cls, fact: Example, attempts: Sequence[Attempt]) -> Attempts:
        """Collect the attempts on a fact.

        Args:
            fact: The fact or passage.
            attempts: The attempts, in order.
        """
        return cls(
            fact=fact.id, question=fact.question, answer=fact.answer,
            expected=expected_texts(fact), attempts=tuple(attempts),
        )  # fmt: skip

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Attempts:
        """Restore the record from its stored form."""
        return cls(
            fact=stored["fact"], question=stored["question"], answer=stored["answer"],
            expected=tuple(stored["expected"]), attempts=tuple(Attempt(**each) for each in stored["attempts"]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FactNumber:
    """A number with one value per fact, of which the mean over the facts is reported.

    Attributes:
        name: Its name, after that of the attack.
        label: Short readable name, likewise.
        text: Definition in words.
        main: Whether it is one of the main numbers.
        excess: Whether its excess over the retain model is reported too.
        unit: Its unit.
        direction: Which values are better.
    """

    name: str
    label: str
    text: str
    main: bool = False
    excess: bool = True
    unit: str = "share"
    direction: Direction = "lower"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionContext:
    """What an attack may use.

    Attributes:
        victim: The model.
        overlap: See :data:`Overlap`.
        seed: Seed of the run.
        budget: Token budget of an answer to a fact, at least that of the true one.
        progress: Called with the number of facts finished.
        proposer: The language model that writes prompts; ``None`` for an attack without one.
    """

    victim: Victim
    overlap: Overlap
    seed: int
    budget: Callable[[Example], int]
    progress: Callable[[int], None]
    proposer: Proposer | None = None


class ExtractionAttack(BaseAttack, ABC):
    """An attack that asks the model about every fact to forget, in its own way and as often as it likes.

    Model and prompts of the other metrics stay as they are; what the attack finds are numbers of its own. The same
    calls go to target, unlearned and retain model.

    Attributes:
        together: Number of facts attacked side by side, which a killed run loses at most; more than one only where that
            is faster.
    """

    together: ClassVar[int] = 1

    @property
    @abstractmethod
    def calls(self) -> int:
        """Maximum number of texts that the model generates per fact, for estimates."""

    @property
    def proposals(self) -> tuple[int, ...]:
        """Largest number of prompts that it takes per fact from a proposer, by round; empty if it takes none."""
        return ()

    def check(self, facts: Sequence[Example]) -> None:
        """Check that the attack can ask about the facts, before anything is computed.

        Args:
            facts: Facts to forget.

        Raises:
            UserError: It cannot.
        """

    @abstractmethod
    def extract(self, facts: Sequence[Example], ctx: ExtractionContext) -> Iterator[tuple[Attempt, ...]]:
        """Yield the attempts on each fact, in order; they depend on that fact and the model alone.

        Args:
            facts: Facts to forget.
            ctx: What the attack may use.
        """

    @abstractmethod
    def numbers(self) -> tuple[FactNumber, ...]:
        """Define the numbers."""

    def proposal_numbers(self) -> tuple[FactNumber, ...]:
        """Define the further numbers of a run with a proposer; none by default."""
        return ()

    @abstractmethod
    def values(self, found: Attempts, overlap: Overlap) -> Mapping[str, float | None]:
        """Compute the value of every number on one fact, those of a run with a proposer included.

        A value is ``None`` where the fact does not count.

        Args:
            found: The attempts on the fact.
            overlap: See :data:`Overlap`.
        """

    def best(self, found: Attempts, overlap: Overlap) -> tuple[Attempt, float]:
        """Choose the attempt that the report shows for a fact, with its score; by default the largest overlap.

        Args:
            found: The attempts on the fact, at least one.
            overlap: See :data:`Overlap`.
        """
        scores = [overlap(found.answer, each.text) for each in found.attempts]
        place = max(range(len(scores)), key=scores.__getitem__)
        return found.attempts[place], scores[place]
