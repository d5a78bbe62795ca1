"""score: a model and texts in, how strongly it holds each of them (MEMO) out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from meow_lightning.stages.shared import evaluator, facts, in_chunks
from meow_lightning.stages.work import Work, read_lines
from meow_lightning.types import ScoredText

if TYPE_CHECKING:
    from meow_lightning.memo.measure import Text

VERSION = 2
MAKES = ("scores.jsonl",)
CHUNK = 128  # texts scored together


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
    for text in wanted:  # what a training could not take is said before an hour of scoring
        codec.encode(text.question, text.answer)
    places = {(text.fact, text.position): i for i, text in enumerate(wanted)}
    profile = Profile(**work.settings["memo"], name=work.inputs["memo"]["name"])

    def make(numbers: Sequence[int]) -> Iterator[tuple[int, ScoredText]]:
        chunk = [wanted[number] for number in numbers]
        for text in measure(model, codec, chunk, profile=profile, slots=work.runtime.slots, progress=None, done=()):
            yield places[text.fact, text.position], text

    in_chunks(work, len(wanted), size=CHUNK, unit="texts", name="scores.jsonl", make=make)
