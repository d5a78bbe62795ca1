"""answer: a model and the evaluation sets in, what it says and how likely it finds every reference text out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from meow_lightning.stages.shared import carried, dataset, evaluator, in_chunks, room
from meow_lightning.stages.work import Work
from meow_lightning.types import AnswerRow, UserError

VERSION = 3
MAKES = ("rows.jsonl",)
CHUNK = 128  # questions answered together


def run(work: Work) -> None:
    """Write ``rows.jsonl``, one line per question of every evaluation set; finished lines survive a kill."""
    from meow_lightning.evaluation.answer import answer

    if carried(work, MAKES):
        return
    model, codec = evaluator(work)
    sets = {name: facts for name, facts in dataset(work).evaluation().items() if name in work.settings["sets"]}
    questions = [(name, index, fact) for name, facts in sets.items() for index, fact in enumerate(facts)]
    settings, runtime = work.settings["evaluation"], work.runtime
    longest = max(len(codec.prompt_ids(fact.question)) for _, _, fact in questions)
    slots = room(work, model, tokens=longest, generated=settings["max_new_tokens"], shared=False)

    def make(numbers: Sequence[int], tell: Callable[[int], None]) -> Iterator[tuple[int, AnswerRow]]:
        rows = answer(
            model, codec, [questions[number] for number in numbers], max_new_tokens=settings["max_new_tokens"],
            batch=runtime.eval_batch, slots=slots, progress=tell,
        )  # fmt: skip
        for number, row in zip(numbers, rows, strict=True):
            if any(map(math.isnan, row.truth.logps)):
                raise UserError(
                    f"the {work.label} model gives likelihoods that are not numbers (question: {row.question[:60]!r}): "
                    "its weights are broken, or its training diverged"
                )
            yield number, row

    each = [[number] for number in range(len(questions))]
    in_chunks(work, each, sizes=[1] * len(each), least=CHUNK, unit="questions", name="rows.jsonl", make=make)
