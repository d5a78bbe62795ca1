"""score: a model and texts in, how strongly it holds each of them (MEMO) out."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from meow_lightning.parallel import barrier, mine, rank
from meow_lightning.stages.shared import evaluator, facts
from meow_lightning.stages.work import Parts, Work, read_lines

if TYPE_CHECKING:
    from meow_lightning.memo.measure import Text

VERSION = 1


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
    parts = Parts(work.folder, index="index")
    todo = mine([text for i, text in enumerate(wanted) if i not in parts.done])
    done = len(wanted) - len(todo)
    barrier()
    for scored in measure(
        model, codec, todo, profile=Profile(**work.settings["memo"]), slots=work.runtime.slots, progress=None, done=()
    ):
        parts.add({"index": places[scored.fact, scored.position], **asdict(scored)})
        done += 1
        work.progress(done, len(wanted), "texts")
    barrier()
    if rank() == 0:
        parts.merge(work.folder / "scores.jsonl")
