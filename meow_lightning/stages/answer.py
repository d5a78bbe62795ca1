"""answer: a model and the evaluation sets in, what it says and how likely it finds every reference text out."""

from __future__ import annotations

from dataclasses import asdict

from meow_lightning.parallel import barrier, chunks, mine, rank
from meow_lightning.stages.shared import dataset, evaluator
from meow_lightning.stages.work import Parts, Work

VERSION = 1
MAKES = ("rows.jsonl",)
CHUNK = 128  # questions answered together: what a killed run may lose, at most


def run(work: Work) -> None:
    """Write ``rows.jsonl``, one line per question of every evaluation set; finished lines survive a kill."""
    from meow_lightning.evaluation.answer import answer

    model, codec = evaluator(work)
    sets = dataset(work).evaluation()
    questions = [(name, index, fact) for name, facts in sets.items() for index, fact in enumerate(facts)]
    parts = Parts(work.folder, index="number")
    barrier(work.runtime.accelerator)
    settings, runtime, done = work.settings["evaluation"], work.runtime, 0
    for numbers in chunks(mine(range(len(questions))), CHUNK):
        done += len(numbers)
        # A chunk is done whole or not at all: rows answered beside other rows differ in the last bits.
        if not all(number in parts.done for number in numbers):
            rows = answer(
                model, codec, [questions[number] for number in numbers], max_new_tokens=settings["max_new_tokens"],
                batch=runtime.eval_batch, slots=runtime.slots, progress=None,
            )  # fmt: skip
            parts.add({"number": number, **asdict(row)} for number, row in zip(numbers, rows, strict=True))
        work.progress(min(done * runtime.devices, len(questions)), len(questions), "questions")
    barrier(work.runtime.accelerator)
    if rank() == 0:
        parts.merge(work.folder / "rows.jsonl")
