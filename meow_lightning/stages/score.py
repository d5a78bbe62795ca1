"""score: a model and texts in, how strongly it holds each of them (MEMO) out."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from meow_lightning.parallel import barrier, chunks, mine, rank
from meow_lightning.stages.shared import evaluator, facts
from meow_lightning.stages.work import Parts, Work, read_lines

if TYPE_CHECKING:
    from meow_lightning.memo.measure import Text

VERSION = 1
MAKES = ("scores.jsonl",)
CHUNK = 128  # texts scored together: what a killed run may lose, at most


def texts(work: Work) -> list[Text]:
    """What to score: the true answers of the forget set, or its inverted facts."""
    from meow_lightning.memo.measure import Text

    if "inverted" in work.needs:
        rows = read_lines(work.needs["inverted"] / "inverted.jsonl")
        return [Text(row["fact"], "candidate", row["position"], row["question"], row["answer"]) for row in rows]
    return [Text(fact.id, "answer", 0, fact.question, fact.answer) for fact in facts(work, ["forget"])]


def run(work: Work) -> None:
    """Write ``scores.jsonl``, one line per text in order; finished lines survive a kill."""
    from meow_lightning.memo.measure import Profile, measure

    model, codec = evaluator(work)
    wanted = texts(work)
    places = {(text.fact, text.position): i for i, text in enumerate(wanted)}
    parts = Parts(work.folder, index="number")
    barrier(work.runtime.accelerator)
    profile, done = Profile(**work.settings["memo"], name=work.inputs["memo"]["name"]), 0
    for numbers in chunks(mine(range(len(wanted))), CHUNK):
        done += len(numbers)
        # A chunk is done whole or not at all, so that a resumed run batches as an undisturbed one does.
        if not all(number in parts.done for number in numbers):
            chunk = [wanted[number] for number in numbers]
            scored = measure(model, codec, chunk, profile=profile, slots=work.runtime.slots, progress=None, done=())
            parts.add({"number": places[text.fact, text.position], **asdict(text)} for text in scored)
        work.progress(min(done * work.runtime.devices, len(wanted)), len(wanted), "texts")
    barrier(work.runtime.accelerator)
    if rank() == 0:
        parts.merge(work.folder / "scores.jsonl")
