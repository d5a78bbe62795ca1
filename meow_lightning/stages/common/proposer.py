"""A language model that writes prompts for an attack: a writer of `inversion` behind the attack's interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import chain
from typing import Any

from meow_lightning.attacks.proposer import ProposalRequest
from meow_lightning.inversion.base import GenerationRequest, Writer
from meow_lightning.inversion.proposals import parse_proposals
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.attack_writer import attack_writer, named_as, no_facts, writer_notes
from meow_lightning.stages.common.reply_cache import cached_replies, request_digest
from meow_lightning.stages.common.reply_log import NOTHING_SPENT, ReplyLog, request_notes
from meow_lightning.types import Fact

PROPOSER = "proposer"  # name of its settings, of its inputs, and of its model among the needs
ROUND = 10**6  # requests about a fact that a round may take
PROPOSALS = "proposals.jsonl"  # the replies of a proposer that is paid, beside the attempts
PARTS, INDEX = "proposals-part", "request"  # its replies as they arrive, and what identifies them


def stage_proposer(work: StageContext, *, version: int) -> WriterProposer | None:
    """Build the proposer of a stage, its model loaded; ``None`` for one without.

    Args:
        work: The stage's context.
        version: Version of the stage.

    Raises:
        UserError: An option is invalid, or the model cannot be loaded.
    """
    if PROPOSER not in work.settings:
        return None
    per_reply, option = work.settings[PROPOSER]["per_reply"], work.inputs[PROPOSER]["option"]
    return WriterProposer(
        attack_writer(work, PROPOSER), work=work, version=version, option=option, per_reply=per_reply
    )  # fmt: skip


class WriterProposer:
    """Proposer that asks a writer for other wordings, several to a reply.

    What a reply holds depends on the question, the prompts shown, the options of the writer and a seed of its own, not
    on the requests beside it, as far as the writer promises that. Replies of a writer that is paid are on disk as soon
    as they arrive, and are reused: by this stage after a kill, and by the stages of other models and runs.

    Args:
        writer: The writer.
        work: The context of the stage.
        version: Its version.
        option: The dotted option that configures it, for messages.
        per_reply: Prompts requested per reply, 1 or more.
    """

    def __init__(self, writer: Writer, *, work: StageContext, version: int, option: str, per_reply: int) -> None:
        self._writer, self._work, self._version = writer, work, version
        self._option, self._per_reply = option, per_reply
        self._log = self._reply_log() if writer.paid else None

    def _reply_log(self) -> ReplyLog:
        return ReplyLog(
            self._writer, self._work.parts(index=INDEX, name=PARTS), index=_index, cached=lambda: self._cached,
            earlier=NOTHING_SPENT, progress=lambda done, total: None,
        )  # fmt: skip

    @cached_property
    def _cached(self) -> dict[str, dict[str, Any]]:
        return cached_replies(self._work, self._writer, version=self._version, setting=PROPOSER, file=PROPOSALS)

    def propose(self, wanted: Sequence[ProposalRequest]) -> list[list[str]]:
        """Return the prompts of every request, in order; a refused request gives none.

        Args:
            wanted: The requests.

        Raises:
            UserError: The writer cannot continue, or its limit on requests or tokens is reached.
        """
        groups = [self._requests(each) for each in wanted]
        with named_as(self._option):
            replies = self._replies([*chain(*groups)])
        for note in writer_notes(self._writer, self._option):
            self._work.warn(note)
        return [
            [
                prompt for request in group
                for prompt in _parsed(replies[request.fact.id, request.attempt], request.fact.question)
            ]
            for group in groups
        ]  # fmt: skip

    def _replies(self, requests: Sequence[GenerationRequest]) -> dict[tuple[str, int], Mapping[str, Any]]:
        """Return the fields of every reply by fact and attempt."""
        if self._log is not None:
            self._log.send(requests, of=(), load_facts=no_facts)
            return {(each.fact.id, each.attempt): self._log.parts.done[_index(each)] for each in requests}
        # A killed chunk is written again whole: rounding depends on the batches of a model that runs here.
        replies = [*self._writer.write(requests, load_facts=no_facts, should_continue=lambda: True)]
        for reply in replies:
            if reply.refused:
                self._work.warn(f"{self._option}: rules replace the prompts of a refused request ({reply.refused})")
        return {(reply.fact, reply.attempt): asdict(reply) for reply in replies}

    def finish(self) -> None:
        """Keep the replies that were paid for beside the result, and warn about their cost and refused requests."""
        if self._log is None:
            return
        rows = self._log.parts.merge(self._work.folder / PROPOSALS)
        notes = request_notes(rows, file=PROPOSALS)
        if self._log.reused:
            notes.append(f"{self._log.reused} requests had a reply in the store already")
        for note in notes:
            self._work.warn(f"{self._option}: {note}")

    def _requests(self, wanted: ProposalRequest) -> list[GenerationRequest]:
        """Split a request into as many as its prompts need; each has a number of its own, which seeds it."""
        tried = tuple(f"{worth:.2f}: {' '.join(prompt.split())}" for prompt, worth in wanted.tried)
        fact = Fact(id=wanted.fact, question=wanted.question, answer="")
        return [
            GenerationRequest(
                fact=fact, attempt=wanted.round * ROUND + number, count=min(self._per_reply, wanted.count - begun),
                previous_answers=tried, model_answer=None,
            )
            for number, begun in enumerate(range(0, wanted.count, self._per_reply))
        ]  # fmt: skip


def _index(request: GenerationRequest) -> str:
    """Identify a request: facts may share a question, but each has a seed of its own."""
    return f"{request.fact.id}/{request_digest(request)}"


def _parsed(reply: Mapping[str, Any], question: str) -> list[str]:
    return parse_proposals(reply["text"] or "", question, cut=reply["cut"])
