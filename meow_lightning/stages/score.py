"""score: measure how strongly a model has memorized each of some texts (MEMO, MA or EL)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.examples import Dataset, Example
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.distributed import barrier, group_by, rank
from meow_lightning.errors import UserError
from meow_lightning.resources.inference_memory import InferenceLoad
from meow_lightning.resources.requirements import ROW_BYTES, InferenceWork, Planner
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.stages.common.carry_over import can_carry_over
from meow_lightning.stages.common.chunks import adaptive_batch_size, in_chunks
from meow_lightning.stages.common.loading import evaluator, load_dataset
from meow_lightning.stages.common.prompts import TRANSLATIONS, prompt_transform
from meow_lightning.stages.results.filter import FilterResult
from meow_lightning.stages.results.score import ScoreResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import ScoredText, Segments

if TYPE_CHECKING:
    from meow_lightning.data.prompting import PromptEncoder
    from meow_lightning.memo.measure import Measure, Text

CHUNK = 4096  # windows scored together, at least
LETTERS = {"characters": 1, "words": 6, "tokens": 4}  # rough length of the units that MEMO cuts by
WINDOW_BYTES = 10  # per window score, measured on results of the default run


def texts_to_score(work: StageContext) -> list[Text]:
    """Load the texts to score: the true answers of the forget set, or the inverted facts that are new in this round.

    Under an attack that asks in several ways, a true answer is listed with each of them, numbered by its position.
    """
    from meow_lightning.memo.measure import Text, true_answer

    if "filtered" in work.needs:
        earlier = work.needs.get("previous_filtered")
        inverted = FilterResult.read(earlier).inverted if earlier else ()
        previous = {(each.fact, each.position) for each in inverted}
        return [
            Text(each.fact, "candidate", each.position, each.question, each.answer)
            for each in FilterResult.read(work.needs["filtered"]).inverted
            if (each.fact, each.position) not in previous
        ]
    dataset = load_dataset(work)
    transform = prompt_transform(work.settings, work.inputs, dataset, translations=work.needs.get(TRANSLATIONS))
    return [
        true_answer(way, place) for example in dataset.facts("forget") for place, way in enumerate(transform(example))
    ]  # fmt: skip


def _texts_per_fact(artifact: Artifact, planner: Planner) -> int:
    return int(planner.options["inversion"].get("candidates", 1)) if "filtered" in artifact.needs else 1


def expected_windows(artifact: Artifact, planner: Planner) -> list[int]:
    """Estimate the number of windows in the texts about each fact to forget.

    Args:
        artifact: The scores, or their verification.
        planner: The run.
    """
    memo, each = planner.options["memo"], _texts_per_fact(artifact, planner)
    step = memo.get("stride", 1) * LETTERS[memo.get("cut_unit", "tokens")]
    return [each * (len(fact.answer) // step + 1) for fact in _scored_facts(artifact, planner.dataset)]


def _scored_facts(artifact: Artifact, dataset: Dataset) -> list[Example]:
    """Return the facts to forget as they are asked, one by one."""
    transform = prompt_transform(artifact.settings, artifact.inputs, dataset, translations=None)
    return list(chain.from_iterable(map(transform, dataset.facts("forget"))))


def scoring_load(artifact: Artifact, planner: Planner, *, shared: bool) -> InferenceLoad:
    """Describe the inference on all windows.

    Args:
        artifact: The scores, or their verification.
        planner: The run.
        shared: Whether windows of a text share their prefixes.
    """
    facts = _scored_facts(artifact, planner.dataset)
    generated = planner.options["memo"].get("max_new_tokens", max(map(planner.scored, facts)))
    return planner.inference_load(
        facts, texts=0, prompts=sum(expected_windows(artifact, planner)), generated=generated, shared=shared,
        gradient=False,
    )  # fmt: skip


def _write_empty(work: StageContext) -> None:
    if rank() == 0:
        ScoreResult([]).write(work.folder)
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


def _scored_as_one(text: Text) -> tuple[str, int]:
    """Name what a text is scored for: a candidate, or a fact's true answer in any of the ways to ask for it."""
    return text.fact, text.position if text.kind == "candidate" else -1


class Score(Stage):
    """Measure the memorization of texts."""

    name = "score"
    version = 4
    after = ("finetune", "filter", "translate")
    outputs = ScoreResult.files
    component = "memo"
    splits = True

    def texts(
        self, artifact: Artifact, dataset: Dataset, *, streams: Mapping[str, StreamBuilder]
    ) -> Iterator[Segments]:
        """Yield the true answers; of inverted facts, those that cannot be read are left out."""
        yield from (example.segments for example in _scored_facts(artifact, dataset))

    def describe_work(self, artifact: Artifact, planner: Planner) -> InferenceWork:
        """Describe the continuations of all windows.

        The windows of a text share their prefixes; each generates the rest, on average half of the text.
        """
        facts = _scored_facts(artifact, planner.dataset)
        windows = expected_windows(artifact, planner)
        wrote = sum(n * planner.scored(fact) // 2 for n, fact in zip(windows, facts, strict=True))
        return InferenceWork(
            items=len(facts), load=scoring_load(artifact, planner, shared=True), rows=0,
            generation_batch_size=planner.trainer["generation_batch_size"],
            tokens=wrote + sum(map(planner.tokens, facts)), scored=wrote,
        )  # fmt: skip

    def disk(self, artifact: Artifact, planner: Planner) -> int:
        """Estimate the bytes of the texts and the scores of their windows."""
        texts = _texts_per_fact(artifact, planner)
        per_letter = 1 + WINDOW_BYTES // planner.options["memo"].get("stride", 1)
        return texts * sum(ROW_BYTES + len(fact.answer) * per_letter for fact in planner.dataset.facts("forget"))

    def run(self, work: StageContext) -> None:
        """Write one line per text in order; finished lines survive a kill.

        Of a true answer that is asked for in several ways, the largest score counts.
        """
        from meow_lightning.memo.measure import score_texts

        wanted = texts_to_score(work)
        if not wanted:
            return _write_empty(work)
        if can_carry_over(work, self.outputs):
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
        cuts = by.cuts(max(wanted, key=lambda text: len(text.question) + len(text.answer)), codec)
        tokens, generated = max(len(cut.prompt) for cut in cuts), max(cut.budget for cut in cuts)
        slots = adaptive_batch_size(work, model, tokens=tokens, generated=generated, shared=True)
        tries = group_by(wanted, key=_scored_as_one)
        places = {text[:3]: number for number, texts in enumerate(tries) for text in texts}
        sizes = [sum(by.count(text, codec) for text in texts) for texts in tries]

        def make(numbers: Sequence[int], progress: Callable[[int], None]) -> Iterator[tuple[int, ScoredText]]:
            close: Counter[Text] = Counter()
            scored: dict[int, list[ScoredText]] = {number: [] for number in numbers}
            chunk = [text for number in numbers for text in tries[number]]
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
                number = places[text.fact, text.kind, text.position]
                scored[number].append(text)
                if len(scored[number]) == len(tries[number]):
                    yield number, max(scored.pop(number), key=lambda each: (each.score, -each.position))
            for number in numbers:
                work.report_counts(number, windows=sizes[number], alone=sum(close[text] for text in tries[number]))

        # Windows of the same question share their prompts, so one process scores them together.
        groups = group_by(range(len(tries)), key=lambda number: tries[number][0].question)
        return in_chunks(
            work, groups, sizes=sizes, least=CHUNK, unit="windows", name=ScoreResult.file, make=make
        )  # fmt: skip
