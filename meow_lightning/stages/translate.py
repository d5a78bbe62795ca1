"""translate: have a language model translate the questions that an attack asks in other languages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from meow_lightning.attacks.base import gives_away
from meow_lightning.data.encoding import digest_of, estimated_length, estimated_tokens
from meow_lightning.data.examples import Dataset, Example
from meow_lightning.distributed import barrier, rank, shard
from meow_lightning.errors import UserError, shorten_list
from meow_lightning.inversion.base import GenerationRequest
from meow_lightning.inversion.translations import read_translation
from meow_lightning.resources.requirements import ROW_BYTES, InferenceWork, Planner
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.stages.common.attack_writer import attack_writer, check_writer, named_as, no_facts, writer_notes
from meow_lightning.stages.common.loading import check_unchanged, load_dataset
from meow_lightning.stages.common.prompts import translated_questions
from meow_lightning.stages.common.reply_cache import cached_replies, request_digest
from meow_lightning.stages.common.reply_log import NOTHING_SPENT, ReplyLog, request_notes
from meow_lightning.stages.results.propose import REPLIES
from meow_lightning.stages.results.translate import TranslatedQuestion, TranslateResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Fact

TRANSLATOR = "translator"  # name of its settings, of its inputs, and of its model among the needs
TRANSLATED_FIELDS = ("id", "question", "answer", "value", "values")  # of a fact, read by this stage
INDEX = "request"  # key of a reply among the parts
GIVES_AWAY = "gives the value away"
SHOWN = 8  # questions that a note names


class Translate(Stage):
    """Translate the questions of an attack."""

    name = "translate"
    version = 1
    after = ("finetune",)
    outputs = (*TranslateResult.files, REPLIES)
    component = TRANSLATOR
    absent = (
        "goal=translate translates nothing without a model that does; set attacks=translation "
        "translator@attacks.translation.translator=local"
    )

    def distributed(self, inputs: Mapping[str, Any]) -> bool:
        """Whether the translator runs here, so that its work is split; the requests to a server are not."""
        return not inputs[TRANSLATOR]["paid"]

    def check(self, artifact: Artifact, *, gpu: bool) -> None:
        """Check that a server answers."""
        check_writer(artifact.inputs, artifact.needs, TRANSLATOR)

    def describe_work(self, artifact: Artifact, planner: Planner) -> InferenceWork | None:
        """Describe one reply per question and language to a model that runs here; ``None`` for a server."""
        if TRANSLATOR not in artifact.needs:
            return None
        node, facts = artifact.settings[TRANSLATOR], translated_questions(planner.dataset, artifact.settings)
        prompts = len(facts) * len(artifact.settings["languages"])
        words = sum(len(str(text)) for name, text in node["prompt"].items() if name != "version")
        tokens = estimated_length("a" * words) + max(map(estimated_tokens, facts))
        generated = node["max_new_tokens"]
        return InferenceWork(
            items=prompts, rows=0,
            load=planner.teacher_load(dtype=node["dtype"], prompts=prompts, tokens=tokens, generated=generated),
            generation_batch_size=planner.trainer["generation_batch_size"],
            tokens=prompts * (tokens + generated), scored=prompts * generated,
        )  # fmt: skip

    def disk(self, artifact: Artifact, planner: Planner) -> int:
        """Estimate the bytes of the replies, of their whole budget of tokens, and of what is read from them."""
        facts = translated_questions(planner.dataset, artifact.settings)
        each = 2 * ROW_BYTES + 8 * artifact.settings[TRANSLATOR]["max_new_tokens"]
        return len(facts) * len(artifact.settings["languages"]) * each

    def run(self, work: StageContext) -> None:
        """Write the translations, and the replies that they were read from; answered requests survive a kill.

        Raises:
            UserError: The questions have changed since planning, or no question to forget has a usable translation.
        """
        option = work.inputs[TRANSLATOR]["option"]
        facts = translated_questions(load_dataset(work), work.settings)
        check_unchanged("dataset", digest_of(facts, TRANSLATED_FIELDS), work.settings["facts"])
        writer, requests = attack_writer(work, TRANSLATOR), _requests(facts, work.settings["languages"])
        log = ReplyLog(
            writer, work.parts(index=INDEX), index=_index, earlier=NOTHING_SPENT,
            cached=lambda: cached_replies(work, writer, version=self.version, setting=TRANSLATOR, file=REPLIES),
            progress=partial(work.progress, unit="translations"),
        )  # fmt: skip
        with named_as(option):
            log.send(shard(requests) if writer.runs_locally else requests, of=requests, load_facts=no_facts)
        barrier(work.runtime.accelerator)
        if rank() == 0:
            replies = {row[INDEX]: row for row in work.parts(index=INDEX).done.values()}
            log.parts.merge(work.folder / REPLIES)
            rows = [_read(each, fact, replies[_index(each)]) for each, fact in _paired(requests, facts)]
            TranslateResult(rows).write(work.folder)
            for note in (*request_notes([*replies.values()], file=REPLIES), *_left_out(rows, private=work.private)):
                work.warn(note)
            for note in writer_notes(writer, option):
                work.warn(note)
            _check_usable(rows, facts, load_dataset(work), option=option, private=work.private)
        barrier(work.runtime.accelerator)


def _requests(facts: Sequence[Example], languages: Sequence[str]) -> list[GenerationRequest]:
    """Build a request per question and language, which has a number and so a seed of its own."""
    return [
        GenerationRequest(
            fact=Fact(id=fact.id, question=fact.question, answer=""), attempt=number, count=1,
            previous_answers=(language,), model_answer=None,
        )
        for fact in facts
        for number, language in enumerate(languages)
    ]  # fmt: skip


def _paired(
    requests: Sequence[GenerationRequest], facts: Sequence[Example]
) -> Iterable[tuple[GenerationRequest, Example]]:  # fmt: skip
    known = {fact.id: fact for fact in facts}
    return ((request, known[request.fact.id]) for request in requests)


def _index(request: GenerationRequest) -> str:
    return f"{request.fact.id}/{request_digest(request)}"


def _read(request: GenerationRequest, fact: Example, reply: Mapping[str, Any]) -> TranslatedQuestion:
    language = request.previous_answers[0]
    found = read_translation(reply["text"] or "", fact.question, language=language, cut=reply["cut"])
    reason = found.reason or (GIVES_AWAY if gives_away(found.text, fact) else "")
    return TranslatedQuestion(
        fact=fact.id, question=fact.question, language=language, text=found.text, reason=reason
    )  # fmt: skip


def _left_out(rows: Sequence[TranslatedQuestion], *, private: bool) -> list[str]:
    """Describe the translations that are not asked, by language and reason; of public texts with the questions."""
    counts = Counter(row.language for row in rows)
    notes = []
    for language, reason in dict.fromkeys((row.language, row.reason) for row in rows if row.reason):
        own = [repr(row.question) for row in rows if (row.language, row.reason) == (language, reason)]
        named = f"{TranslateResult.file} names them" if private else shorten_list(own, most=SHOWN)
        notes.append(f"{len(own)} of {counts[language]} translations into {language} are left out, {reason}: {named}")
    return notes


def _check_usable(
    rows: Sequence[TranslatedQuestion], facts: Sequence[Example], dataset: Dataset, *, option: str, private: bool
) -> None:  # fmt: skip
    forget = {fact.id for fact in dataset.facts("forget")}
    if not any(row.fact in forget and not row.reason for row in rows):
        why = "; ".join(_left_out(rows, private=private))
        raise UserError(
            f"{option} translated none of the {len(forget & {fact.id for fact in facts})} questions to forget ({why}); "
            f"choose a larger model, or other {option}.languages"
        )
