"""score: measure how strongly a model has memorized each of some texts (MEMO, MA or EL)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from meow_lightning.config.instantiate import instantiate
from meow_lightning.distributed import barrier, group_by, rank
from meow_lightning.errors import UserError
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.carry_over import can_carry_over
from meow_lightning.stages.common.chunks import adaptive_batch_size, in_chunks
from meow_lightning.stages.common.loading import evaluator, load_examples
from meow_lightning.store.jsonl import read_lines, write_lines
from meow_lightning.types import ScoredText

if TYPE_CHECKING:
    from meow_lightning.data.prompting import PromptEncoder
    from meow_lightning.memo.measure import Measure, Text

VERSION = 4
MAKES = ("scores.jsonl",)
CHUNK = 4096  # windows scored together, at least


def texts(work: StageContext) -> list[Text]:
    """Load the texts to score: the true answers of the forget set, or the inverted facts that are new in this round."""
    from meow_lightning.memo.measure import Text, true_answer

    if "filtered" in work.needs:
        needs = work.needs
        rows = read_lines(needs["previous_filtered"] / "inverted.jsonl") if "previous_filtered" in needs else ()
        previous = {(row["fact"], row["position"]) for row in rows}
        return [
            Text(row["fact"], "candidate", row["position"], row["question"], row["answer"])
            for row in read_lines(work.needs["filtered"] / "inverted.jsonl")
            if (row["fact"], row["position"]) not in previous
        ]
    return [true_answer(example) for example in load_examples(work, "forget")]


def _write_empty(work: StageContext) -> None:
    if rank() == 0:
        write_lines(work.folder / "scores.jsonl", [])
    barrier(work.runtime.accelerator)


def _measurable(work: StageContext, wanted: list[Text], by: Measure, codec: PromptEncoder) -> list[Text]:
    """Drop candidates that cannot be measured or trained on; they can no longer be regenerated."""
    kept, total = [], len(wanted)
    for text in wanted:
        try:
            codec.encode(text.question, text.answer, text.raw)
            by.check(text, codec)
        except UserError:
            continue
        kept.append(text)
    if len(kept) < total:
        work.warn(
            f"{total - len(kept)} of {total} inverted facts are left out: too short to be measured, too long for the "
            "model, or containing special tokens"
        )
    return kept


def run(work: StageContext) -> None:
    """Write ``scores.jsonl``, one line per text in order; finished lines survive a kill."""
    from meow_lightning.memo.measure import score_texts

    wanted = texts(work)
    if not wanted:
        return _write_empty(work)
    if can_carry_over(work, MAKES):
        return None
    model, codec = evaluator(work)
    by = instantiate(work.settings["memo"], allow=work.inputs["allow"], name=work.inputs["memo"]["name"])
    if "filtered" in work.needs:
        wanted = _measurable(work, wanted, by, codec)
        if not wanted:
            return _write_empty(work)
    for text in wanted:  # fail before an hour of scoring, not after it
        codec.encode(text.question, text.answer, text.raw)
        by.check(text, codec)
    places = {(text.fact, text.position): i for i, text in enumerate(wanted)}
    cuts = by.cuts(max(wanted, key=lambda text: len(text.question) + len(text.answer)), codec)
    tokens, generated = max(len(cut.prompt) for cut in cuts), max(cut.budget for cut in cuts)
    slots = adaptive_batch_size(work, model, tokens=tokens, generated=generated, shared=True)
    sizes = [by.count(text, codec) for text in wanted]

    def make(numbers: Sequence[int], progress: Callable[[int], None]) -> Iterator[tuple[int, ScoredText]]:
        close: Counter[Text] = Counter()
        chunk = [wanted[number] for number in numbers]
        for text in score_texts(
            model,
            codec,
            chunk,
            by=by,
            slots=slots,
            progress=lambda done, *_: progress(done),
            done=(),
            alone=lambda text: close.update([text]),
        ):
            yield places[text.fact, text.position], text
        for number in numbers:
            work.report_counts(number, windows=sizes[number], alone=close[wanted[number]])

    # Windows of the same question share their prompts, so one process scores them together.
    groups = group_by(range(len(wanted)), key=lambda number: wanted[number].question)
    return in_chunks(
        work, groups, sizes=sizes, least=CHUNK, unit="windows", name="scores.jsonl", make=make
    )  # fmt: skip
