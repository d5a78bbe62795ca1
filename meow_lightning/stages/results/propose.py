"""The result of ``propose``: the replies of a writer, and a summary of its requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from meow_lightning.inversion.base import GenerationResponse
from meow_lightning.stages.results.base import Result
from meow_lightning.store.durable import write_json
from meow_lightning.store.jsonl import read_json, read_lines, write_lines

QUESTION = "question"  # key in each row: the digest of the request
REPLIES, SUMMARY = "replies.jsonl", "asked.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSummary:
    """The requests of one round.

    Attributes:
        facts: Number of facts that the round requested inverted facts about.
        calls: Number of requests in the round.
        calls_so_far: Number of requests in this round and the earlier ones.
        tokens_so_far: Tokens read and written for them.
        still_memorized: Ids of the facts above the threshold, the most strongly memorized first; empty in round 1.
        memo: Mean score of the true answers on the previous round's model, 0 to 1; ``None`` in round 1.
        worst: The largest of these scores; ``None`` in round 1.
        requests: Number of requests sent to a server.
        prompt_tokens: Tokens that the writer read; 0 if not counted.
        completion_tokens: Tokens that it wrote; 0 if not counted.
        refused: Number of refused requests.
    """

    facts: int
    calls: int
    calls_so_far: int
    tokens_so_far: int
    still_memorized: Sequence[str]
    memo: float | None
    worst: float | None
    requests: int
    prompt_tokens: int
    completion_tokens: int
    refused: int

    @property
    def tokens(self) -> int:
        """Tokens read and written in the round."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class ProposeResult(Result):
    """The replies of a writer.

    Attributes:
        rows: The fields of each reply and the digest of its request, in the order of the facts and attempts.
        summary: A summary of the requests.
    """

    files = (REPLIES, SUMMARY)
    rows: Sequence[Mapping[str, Any]]
    summary: RequestSummary

    @property
    def replies(self) -> list[GenerationResponse]:
        """The replies."""
        return list(map(reply_of, self.rows))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the replies and their summary."""
        return cls(list(read_lines(folder / REPLIES)), RequestSummary(**read_json(folder / SUMMARY)))

    def write(self, folder: Path) -> None:
        """Write both."""
        write_json(folder / SUMMARY, asdict(self.summary))
        write_lines(folder / REPLIES, self.rows)


def reply_of(row: Mapping[str, Any]) -> GenerationResponse:
    """Convert a stored row to a reply; the digest and number of its request are dropped."""
    fields = {name: value for name, value in row.items() if name not in (QUESTION, "number")}
    answers, rejected = row["answers"], row.get("rejected", ())
    return GenerationResponse(
        **{**fields, "answers": None if answers is None else tuple(answers), "rejected": tuple(map(tuple, rejected))}
    )
