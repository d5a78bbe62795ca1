"""The replies of a writer on disk as they arrive, and the limits on what is requested."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from meow_lightning.errors import UserError
from meow_lightning.inversion.base import GenerationRequest, LoadFacts, Writer
from meow_lightning.stages.common.reply_cache import request_digest
from meow_lightning.stages.common.shards import Parts
from meow_lightning.stages.results.propose import QUESTION


class Spent(NamedTuple):
    """Requests and tokens that count towards the limits."""

    requests: int
    tokens: int


NOTHING_SPENT = Spent(0, 0)


class ReplyLog:
    """Requests to a writer: each is sent once, its reply is on disk as soon as it arrives, and limits are kept.

    Args:
        writer: The writer.
        parts: The replies so far; each row has the digest of its request as ``question`` and the fields of the reply.
        index: Returns the index of a request's reply among the parts.
        cached: Collects the replies to earlier requests in the store, by digest; called only for a writer that is paid.
        earlier: What was spent before.
        progress: Called with the numbers of answered and of all requests.
    """

    def __init__(
        self, writer: Writer, parts: Parts, *, index: Callable[[GenerationRequest], Hashable],
        cached: Callable[[], Mapping[str, dict[str, Any]]], earlier: Spent, progress: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        self.writer, self.parts, self.reused = writer, parts, 0
        self._index, self._cached, self._earlier, self._progress = index, cached, earlier, progress

    @property
    def tokens(self) -> int:
        """Tokens read and written, including earlier ones."""
        return self._earlier.tokens + sum(map(row_tokens, self.parts.done.values()))

    @property
    def requests(self) -> int:
        """Paid requests, including earlier ones."""
        return self._earlier.requests + sum(bool(row["requests"]) for row in self.parts.done.values())

    def send(
        self, share: Sequence[GenerationRequest], *, of: Sequence[GenerationRequest], load_facts: LoadFacts
    ) -> None:
        """Send the requests that have no reply yet.

        Args:
            share: The requests of this process.
            of: Those of all processes.
            load_facts: See :meth:`~meow_lightning.inversion.base.Writer.write`.

        Raises:
            UserError: The limit on requests or tokens is reached; the replies so far are kept.
        """
        self._keep([], of)
        pending = [request for request in share if self._index(request) not in self.parts.done]
        if self.writer.paid and pending:
            pending = self._reuse(pending, of)
        limit = self.writer.max_requests
        allowed = pending if limit is None else pending[: max(0, limit - self.requests)]
        asked = {(request.fact.id, request.attempt): request for request in allowed}
        replies = self.writer.write(allowed, load_facts=load_facts, should_continue=self._within_budget)
        for reply in replies if allowed else ():
            request = asked[reply.fact, reply.attempt]
            self._keep([self._row(request, asdict(reply))], of)
        self._check_limits(share)

    def _row(self, request: GenerationRequest, reply: Mapping[str, Any]) -> dict[str, Any]:
        return {**reply, QUESTION: request_digest(request), self.parts.index: self._index(request)}

    def _reuse(
        self, requests: Sequence[GenerationRequest], of: Sequence[GenerationRequest]
    ) -> list[GenerationRequest]:  # fmt: skip
        """Take replies to the same requests from the store; returns the requests that remain to be sent."""
        cached, taken, rest = self._cached(), [], []
        for request in requests:
            row = cached.get(request_digest(request))
            if row is None:
                rest.append(request)
            else:
                taken.append(self._row(request, {**row, "fact": request.fact.id, "attempt": request.attempt}))
        self._keep(taken, of)
        self.reused += len(taken)
        return rest

    def _keep(self, rows: Sequence[dict[str, Any]], of: Sequence[GenerationRequest]) -> None:
        self.parts.add(rows)
        self.parts.done |= {row[self.parts.index]: row for row in rows}
        self._progress(sum(self._index(request) in self.parts.done for request in of), len(of))
        sent = (row for row in self.parts.done.values() if row["requests"] and row["text"])
        uncounted = next((row for row in sent if not row_tokens(row)), None)
        if uncounted is not None and self.writer.max_total_tokens is not None:
            raise UserError(
                f"inversion.max_total_tokens={self.writer.max_total_tokens} cannot be enforced: the server "
                "reports no token usage; set inversion.max_requests instead"
            )

    def _within_budget(self) -> bool:
        return self.writer.max_total_tokens is None or self.tokens < self.writer.max_total_tokens

    def _check_limits(self, share: Sequence[GenerationRequest]) -> None:
        open_ = sum(self._index(request) not in self.parts.done for request in share)
        if open_:
            tokens, limit = self.tokens, self.writer.max_total_tokens
            exceeded = limit is not None and tokens >= limit
            what = f"max_total_tokens={limit}" if exceeded else f"max_requests={self.writer.max_requests}"
            raise UserError(
                f"inversion.{what} is used up after {self.requests} requests ({tokens} tokens), with {open_} still "
                "to send; the replies are kept: raise the limit and run again to send only the rest"
            )


def row_tokens(row: Mapping[str, Any]) -> int:
    """Sum the tokens that were read and written for a reply.

    Args:
        row: The fields of the reply.
    """
    return int(row["prompt_tokens"] + row["completion_tokens"])


def request_notes(replies: Sequence[Mapping[str, Any]], *, file: str) -> list[str]:
    """Describe the cost of replies, where it was counted, and refused requests.

    Without the reasons: servers quote the request, and warnings appear where private texts must not.

    Args:
        replies: The fields of the replies.
        file: The file of the result that holds them.
    """
    read, written, requests = (
        sum(row[name] for row in replies) for name in ("prompt_tokens", "completion_tokens", "requests")
    )
    sent = f"{requests:,} requests, " if requests else ""
    refused = sum(bool(row["refused"]) for row in replies)
    return [
        *[f"{sent}{read:,} tokens read, {written:,} written"] * bool(read + written),
        *[f"{refused} requests were refused; {file} of this result gives the reasons"] * bool(refused),
    ]
