"""propose: request inverted facts from a writer; requests are repeated where filtering would leave too few.

Each reply is written to disk as soon as it arrives, so no answered request is sent twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.encoding import estimated_length, estimated_tokens
from meow_lightning.data.values.secrets import Secrets
from meow_lightning.distributed import barrier, device, rank, shard
from meow_lightning.inversion.base import DatasetFacts, GenerationRequest, GenerationResponse, Writer
from meow_lightning.inversion.candidates import keep_candidates, missing_counts, parse_replies
from meow_lightning.inversion.demonstrations import DEMONSTRATION_LENGTH
from meow_lightning.resources.requirements import ROW_BYTES, InferenceWork, Planner
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.stages.common.chunks import adaptive_batch_size
from meow_lightning.stages.common.loading import check_unchanged, load_facts, previous_rounds
from meow_lightning.stages.common.reply_cache import cached_replies
from meow_lightning.stages.common.reply_log import NOTHING_SPENT, ReplyLog, Spent, request_notes, row_tokens
from meow_lightning.stages.common.shards import PARTS, Parts
from meow_lightning.stages.results.filter import FilterResult
from meow_lightning.stages.results.model import model_folder
from meow_lightning.stages.results.predict import PredictResult
from meow_lightning.stages.results.propose import REPLIES, ProposeResult, RequestSummary, reply_of
from meow_lightning.stages.results.score import ScoreResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import digest
from meow_lightning.types import Fact


class Propose(Stage):
    """Request inverted facts from a writer."""

    name = "propose"
    version = 1
    after = ("finetune",)
    outputs = ProposeResult.files
    component = "inversion"

    def distributed(self, inputs: Mapping[str, Any]) -> bool:
        """Whether the writer runs a model itself, whose work is split; the requests to a server are not."""
        return bool(inputs["runs_locally"])

    def check(self, artifact: Artifact, *, gpu: bool) -> None:
        """Check that a server answers, in the first round: later rounds may send no request."""
        if not artifact.inputs["runs_locally"] and "scores" not in artifact.needs:
            instantiate(artifact.inputs["inversion"], allow=artifact.inputs["allow"]).check()

    def describe_work(self, artifact: Artifact, planner: Planner) -> InferenceWork | None:
        """Describe the requests to a language model that runs here, one per fact; ``None`` for another writer."""
        if "teacher" not in artifact.needs:
            return None
        facts, node = planner.dataset.facts("forget"), planner.options["inversion"]
        prompt = node.get("prompt")
        texts = (
            [node["instruction"]] if prompt is None else [text for name, text in prompt.items() if name != "version"]
        )
        words = sum(len(str(text)) for text in texts)
        # Question and answer of the longest fact, with demonstrations in proportion.
        shown = 1 + DEMONSTRATION_LENGTH * node.get("demonstrations", 0)
        tokens = estimated_length("a" * words) + shown * max(map(estimated_tokens, facts))
        generated = node["max_new_tokens"]
        # Without a prompt that requests several answers, each answer is a reply of its own.
        prompts = len(facts) * (artifact.settings["count"] if prompt is None else 1)
        return InferenceWork(
            items=len(facts), rows=0,
            load=planner.teacher_load(dtype=node["dtype"], prompts=prompts, tokens=tokens, generated=generated),
            generation_batch_size=planner.trainer["generation_batch_size"],
            tokens=prompts * (tokens + generated), scored=prompts * generated,
        )  # fmt: skip

    def disk(self, artifact: Artifact, planner: Planner) -> int:
        """Estimate the bytes of the replies; of a language model, its whole budget of tokens."""
        node, facts = planner.options["inversion"], planner.dataset.facts("forget")
        if "max_new_tokens" in node:
            return len(facts) * (ROW_BYTES + 4 * node["max_new_tokens"])
        counts = [node.get("candidates", len(fact.inverted)) for fact in facts]
        return sum(ROW_BYTES + count * len(fact.answer) for count, fact in zip(counts, facts, strict=True))

    def run(self, work: StageContext) -> None:
        """Write the raw replies in the order of the facts, and a summary of the requests."""
        session = _WriterSession(work)
        requests, calls, facts = session.first_requests, 0, 0
        for _ in range(work.settings["max_retries_per_fact"] + 1):
            requests = requests[: session.remaining_requests(calls)]
            if not requests:
                break
            facts, calls = facts or len(requests), calls + len(requests)
            session.send(requests)
            requests = session.retries(requests)
        barrier(work.runtime.accelerator)  # no process may merge the parts while others still read them
        if rank() == 0:
            summary = session.summary(facts, calls)
            session.add_notes()
            ProposeResult(Parts(work.folder, index="number", name=PARTS).rows(), summary).write(work.folder)
        barrier(work.runtime.accelerator)


class _WriterSession:
    """The requests of one stage: which are sent to the writer, what came back, and what is still missing."""

    def __init__(self, work: StageContext) -> None:
        self.work = work
        self.rounds: Mapping[str, Any] | None = work.settings["rounds"]
        self.forget = load_facts(work, "forget")
        self.previous = previous_rounds(work)

    @cached_property
    def writer(self) -> Writer:
        """The writer; a local language model also gets its folder and its device."""
        work, arguments = self.work, {}
        node = work.inputs["inversion"]
        if "file" in work.settings["inversion"]:
            path = Path(node["path"])
            check_unchanged(f"inversion.path={path}", digest(path), work.settings["inversion"]["file"])
        if "teacher" in work.needs:
            arguments = {
                "folder": model_folder(work.needs["teacher"]), "device": str(device(work.runtime.accelerator)),
                "adaptive_batch_size": partial(adaptive_batch_size, work, shared=False),
            }  # fmt: skip
        return instantiate(node, allow=work.inputs["allow"], **arguments)

    @cached_property
    def secrets(self) -> Secrets:
        """Secrets that only the facts to forget contain and that no inverted fact may repeat."""
        return Secrets.of(*self._dataset_facts())

    @cached_property
    def scores(self) -> dict[str, float]:
        """MEMO score of each fact's true answer on the previous round's model; empty in the first round."""
        if "scores" not in self.work.needs:
            return {}
        return {text.fact: text.score for text in ScoreResult.read(self.work.needs["scores"]).texts}

    @cached_property
    def still_memorized(self) -> list[Fact]:
        """Facts above the threshold, the most strongly memorized first; empty in the first round."""
        if not self.scores or not self.rounds:
            return []
        memorized = [fact for fact in self.forget if self.scores[fact.id] > self.rounds["memorized_above"]]
        return sorted(memorized, key=lambda fact: -self.scores[fact.id])

    @cached_property
    def first_requests(self) -> list[GenerationRequest]:
        """Requests of the first attempt: every fact in round 1, the facts still memorized in later rounds."""
        facts = self.forget
        if self.stalled:
            facts = []
        elif self.scores and self.rounds:
            rest = (
                [fact for fact in self.forget if fact not in self.still_memorized]
                if self.rounds["requery"] == "all"
                else []
            )
            # Both values of `requery` stop in the same round.
            facts = [*self.still_memorized, *rest] if self.still_memorized else []
        predictions = self.work.needs.get("predictions")
        rows = PredictResult.read(predictions).rows if predictions else ()
        model_answers = {row.fact: row.text for row in rows if row.set == "forget"}
        count = self.work.settings["count"]
        return [
            GenerationRequest(
                fact=fact,
                attempt=0,
                count=count,
                previous_answers=(*self.previous.get(fact.id, ()),),
                model_answer=model_answers.get(fact.id),
            )
            for fact in facts
        ]

    @property
    def stalled(self) -> bool:
        """Whether the previous round kept nothing new: the same requests would give the same replies."""
        return "scores" in self.work.needs and not FilterResult.read(self.work.needs["previous_filtered"]).summary.kept

    def remaining_requests(self, calls: int) -> int | None:
        """Compute how many requests may still be sent; ``None`` for any number."""
        maximum = self.rounds["max_requests"] if self.rounds else None
        return None if maximum is None else max(0, maximum - self._earlier.requests - calls)

    @cached_property
    def _earlier(self) -> Spent:
        """The requests and tokens of the earlier rounds."""
        if "proposed" not in self.work.needs:
            return NOTHING_SPENT
        summary = ProposeResult.read(self.work.needs["proposed"]).summary
        return Spent(summary.calls_so_far, summary.tokens_so_far)

    def send(self, requests: Sequence[GenerationRequest]) -> None:
        """Send the requests that have no reply yet, each process its share.

        Raises:
            UserError: The limit on requests or tokens is reached; the replies so far are kept.
        """
        work = self.work
        barrier(work.runtime.accelerator)
        log = ReplyLog(
            self.writer, work.parts(index="number"), index=self._number, cached=lambda: self._cached,
            earlier=self._earlier, progress=partial(work.progress, unit="questions"),
        )  # fmt: skip
        share = shard(requests) if self.writer.runs_locally else list(requests) if rank() == 0 else []
        log.send(share, of=requests, load_facts=self._dataset_facts)
        if log.reused:
            work.warn(f"{log.reused} of {len(requests)} requests had a reply in the store already")
        barrier(work.runtime.accelerator)

    @cached_property
    def _cached(self) -> dict[str, dict[str, Any]]:
        return cached_replies(
            self.work, self.writer, version=Propose.version, setting="inversion", file=REPLIES
        )  # fmt: skip

    def retries(self, requests: Sequence[GenerationRequest]) -> list[GenerationRequest]:
        """Build the retries of some requests: for facts that would keep too few answers, as many as are missing."""
        count = self.work.settings["count"]
        if count is None:
            return []
        facts = [request.fact for request in requests]
        replies = parse_replies(self._replies(upto=requests[0].attempt))
        filtered = keep_candidates(self.forget, self.previous, replies, secrets=self.secrets)
        kept: dict[str, list[str]] = {}
        for candidate in filtered.inverted:
            kept.setdefault(candidate.fact, []).append(candidate.answer)
        wanted = {fact.id: count + len(self.previous.get(fact.id, ())) for fact in facts}
        missing = missing_counts(facts, filtered, wanted=wanted)
        return [
            replace(
                request,
                attempt=request.attempt + 1,
                count=missing[request.fact.id],
                previous_answers=(*kept.get(request.fact.id, ()),),
            )
            for request in requests
            if request.fact.id in missing
        ]

    def _replies(self, *, upto: int) -> list[GenerationResponse]:
        """Read the replies up to an attempt; a killed run or a faster process may have left later ones."""
        done = Parts(self.work.folder, index="number", name=PARTS).done
        every = [reply_of(done[i]) for i in sorted(done)]
        return [reply for reply in every if reply.attempt <= upto]

    def summary(self, facts: int, calls: int) -> RequestSummary:
        """Summarize the requests, the facts they were about and their cost, for the next round and the report."""
        replies, scores = self._replies(upto=self.work.settings["max_retries_per_fact"]), list(self.scores.values())
        cost = {
            name: sum(getattr(reply, name) for reply in replies)
            for name in ("requests", "prompt_tokens", "completion_tokens")
        }
        return RequestSummary(
            facts=facts, calls=calls, calls_so_far=self._earlier.requests + calls,
            tokens_so_far=self._earlier.tokens + row_tokens(cost),
            still_memorized=[fact.id for fact in self.still_memorized],
            memo=sum(scores) / len(scores) if scores else None, worst=max(scores, default=None),
            **cost, refused=sum(bool(reply.refused) for reply in replies),
        )  # fmt: skip

    def add_notes(self) -> None:
        """Warn about the cost of the replies and about refused requests, and pass on the caveats of the writer."""
        replies = [*map(asdict, self._replies(upto=self.work.settings["max_retries_per_fact"]))]
        for note in (*request_notes(replies, file=REPLIES), *self.writer.notes()):
            self.work.warn(note)

    def _dataset_facts(self) -> DatasetFacts:
        return DatasetFacts(self.forget, load_facts(self.work, "retain"))

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {fact.id: position for position, fact in enumerate(self.forget)}

    def _number(self, item: GenerationRequest | GenerationResponse) -> int:
        fact = item.fact if isinstance(item, GenerationResponse) else item.fact.id
        return self._positions[fact] * (self.work.settings["max_retries_per_fact"] + 1) + item.attempt
