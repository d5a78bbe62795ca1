"""What an attack that searches prompts asks a language model for, and what it gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

LEADERS = 4  # best prompts so far from which a round of a search builds its own


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRequest:
    """A request for prompts that ask about a fact.

    Attributes:
        fact: Identifier of the fact.
        question: Its question. The true answer is kept from the proposer.
        round: Number of the round of the search, from 0.
        count: Number of prompts, 1 or more.
        tried: The best prompts so far with what each is worth to the search, the best first.
    """

    fact: str
    question: str
    round: int
    count: int
    tried: Sequence[tuple[str, float]]


class Proposer(Protocol):
    """A language model that writes prompts."""

    def propose(self, wanted: Sequence[ProposalRequest]) -> list[list[str]]:
        """Return the prompts of every request, in order; any number of them, also none.

        They depend on the request and the options of the proposer alone, never on the requests beside it.

        Args:
            wanted: The requests.
        """
        ...


def replies_per_fact(proposals: Sequence[int], per_reply: int) -> int:
    """Compute how many replies the prompts about a fact take.

    Args:
        proposals: Number of prompts by round.
        per_reply: Prompts requested per reply, 1 or more.
    """
    return sum(-(-count // per_reply) for count in proposals)
