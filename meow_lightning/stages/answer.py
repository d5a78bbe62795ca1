"""answer: a model and the evaluation sets in, what it says and how likely it finds every reference text out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from meow_lightning.evaluation.compat import batches, counted
from meow_lightning.stages.shared import carried, dataset, evaluator, in_chunks, room
from meow_lightning.stages.work import Work
from meow_lightning.types import AnswerRow

VERSION = 6
MAKES = ("rows.jsonl",)
CHUNK = 256  # questions answered together: their prompts fill the slots of a CPU


def run(work: Work) -> None:
    """Write ``rows.jsonl``, one line per question of every evaluation set; finished lines survive a kill."""
    from meow_lightning.evaluation.answer import answer
    from meow_lightning.evaluation.compat_answer import answer_as

    if carried(work, MAKES):
        return
    model, codec = evaluator(work)
    settings, runtime = work.settings["evaluation"], work.runtime
    name = settings.get("compat", "none")
    sets = {
        each: counted(name, facts)
        for each, facts in dataset(work).evaluation().items()
        if each in work.settings["sets"]
    }
    questions = [(each, index, fact) for each, facts in sets.items() for index, fact in enumerate(facts)]
    if name == "none":
        longest = max(len(codec.asked_ids(fact.question)) for _, _, fact in questions)
        slots = room(work, model, tokens=longest, generated=settings["max_new_tokens"], shared=False)

    def make(numbers: Sequence[int], tell: Callable[[int], None]) -> Iterator[tuple[int, AnswerRow]]:
        asked = [questions[number] for number in numbers]
        if name == "none":
            rows = answer(
                model, codec, asked, max_new_tokens=settings["max_new_tokens"], batch=runtime.eval_batch, slots=slots,
                gradients=settings["gradients"], progress=tell,
            )  # fmt: skip
        else:
            rows = answer_as(
                name, model, codec, asked, batch=runtime.eval_batch, gradients=settings["gradients"], progress=tell
            )
        yield from zip(numbers, rows, strict=True)

    groups = batches(name, [len(facts) for facts in sets.values()])
    least = CHUNK if name == "none" else 1
    in_chunks(work, groups, sizes=[1] * len(questions), least=least, unit="questions", name="rows.jsonl", make=make)
