"""verify: recompute a sample of scored windows one by one with the reference loop and compare the scores."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from meow_lightning.config.instantiate import instantiate
from meow_lightning.distributed import rank
from meow_lightning.errors import UserError
from meow_lightning.resources.requirements import InferenceWork, Planner
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.stages.common.chunks import in_chunks
from meow_lightning.stages.common.loading import evaluator
from meow_lightning.stages.results.score import ScoreResult
from meow_lightning.stages.results.verify import Checked, VerifyResult
from meow_lightning.stages.score import scoring_load, texts_to_score
from meow_lightning.store.artifact import Artifact

CHUNK = 8  # windows
SAME = 1e-12  # largest difference of two scores that count as equal
EXACT = ("float32", "float64")  # in lower precision, rounding may differ between a batch and a single prompt


class Verify(Stage):
    """Recompute a sample of scored windows."""

    name = "verify"
    version = 1
    after = ("score",)
    outputs = VerifyResult.files
    quotes = False
    component = "memo"
    selected_with = ("score",)
    absent = "goal=verify checks nothing with memo.verify=0; set memo.verify=100 to check 100 windows"
    splits = True

    def describe_work(self, artifact: Artifact, planner: Planner) -> InferenceWork:
        """Describe the windows that are recomputed one by one."""
        load, windows = scoring_load(artifact, planner, shared=False), artifact.settings["windows"]
        return InferenceWork(
            items=len(planner.dataset.facts("forget")), load=load, rows=0, generation_batch_size=1,
            tokens=windows * (load.tokens + load.scored), scored=windows * load.scored,
        )  # fmt: skip

    def run(self, work: StageContext) -> None:
        """Write one line per checked window.

        Raises:
            UserError: Some scores differ in float32 or float64, where they must be equal.
        """
        from meow_lightning.generation.reference import reference_continuation

        model, codec = evaluator(work)
        rows = ScoreResult.read(work.needs["scores"]).texts
        scored = {(row.fact, row.position) for row in rows}  # scoring left out texts that cannot be measured
        wanted = [text for text in texts_to_score(work) if (text.fact, text.position) in scored]
        by = instantiate(work.settings["memo"], allow=work.inputs["allow"], name=work.inputs["memo"]["name"])
        stored = [row.windows for row in rows]
        every = [(text, place) for text, scores in enumerate(stored) for place in range(len(scores))]
        count = min(work.settings["windows"], len(every))
        picked = sorted(random.Random(work.settings["seed"]).sample(every, count))

        def make(numbers: Sequence[int], progress: Callable[[int], None]) -> Iterator[tuple[int, Checked]]:
            for done, number in enumerate(numbers):
                at, place = picked[number]
                text, cut = wanted[at], by.cuts(wanted[at], codec)[place]
                continuation = reference_continuation(
                    model, cut.prompt, budget=cut.budget, end_ids=codec.end_ids, pad_id=codec.pad_id
                )
                yield (
                    number,
                    Checked(text.fact, text.kind, text.position, place, stored[at][place], cut.score(continuation)),
                )
                progress(done + 1)

        groups = [[number] for number in range(count)]
        in_chunks(work, groups, sizes=[1] * count, least=CHUNK, unit="windows", name=VerifyResult.file, make=make)
        if rank() == 0:
            _report_differences(work, total=len(every))


def _report_differences(work: StageContext, *, total: int) -> None:
    checked = VerifyResult.read(work.folder).windows
    different = [row for row in checked if not abs(row.stored - row.plain) <= SAME]
    summary = f"{len(checked)} of {total} windows recomputed one by one, {len(different)} of their scores differ"
    work.warn(summary)
    if different and work.settings["model"]["dtype"] in EXACT:
        worst = max(different, key=lambda row: abs(row.stored - row.plain))
        text = f"candidate {worst.position}" if worst.kind == "candidate" else "true answer"
        raise UserError(
            f"verify {work.label}: {summary} (most: fact {worst.fact}, {text}, window {worst.window}: "
            f"{worst.stored:.6f} stored, {worst.plain:.6f} by the plain loop); these scores cannot be trusted: please "
            "report this with the model's config.json; memo.verify=0 skips this check"
        )
