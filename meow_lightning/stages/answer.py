"""answer: a model and the evaluation sets in, what it says and how likely it finds every reference text out."""

from __future__ import annotations

from dataclasses import asdict

from meow_lightning.parallel import barrier, mine, rank
from meow_lightning.stages.shared import dataset, evaluator
from meow_lightning.stages.work import Parts, Work

VERSION = 1
CHUNK = 128  # questions between two writes: what a killed run may lose


def run(work: Work) -> None:
    """Write ``rows.jsonl``, one line per question of every evaluation set; finished lines survive a kill."""
    from meow_lightning.evaluation.answer import answer

    model, codec = evaluator(work)
    sets = dataset(work).evaluation()
    questions = [(name, index, fact) for name, facts in sets.items() for index, fact in enumerate(facts)]
    parts = Parts(work.folder, index="number")
    todo = mine([number for number in range(len(questions)) if number not in parts.done])
    barrier()
    settings, runtime = work.settings["evaluation"], work.runtime
    for start in range(0, len(todo), CHUNK):
        numbers = todo[start : start + CHUNK]
        rows = answer(
            model, codec, [questions[number] for number in numbers], max_new_tokens=settings["max_new_tokens"],
            batch=runtime.eval_batch, slots=runtime.slots, progress=None,
        )  # fmt: skip
        for number, row in zip(numbers, rows, strict=True):
            parts.add({"number": number, **asdict(row)})
        work.progress(len(questions) - len(todo) + start + len(numbers), len(questions), "questions")
    barrier()
    if rank() == 0:
        parts.merge(work.folder / "rows.jsonl")
