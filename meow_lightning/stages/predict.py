"""predict: generate an answer to every evaluation question, and score every reference text under the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from meow_lightning.data.examples import Example
from meow_lightning.distributed import rank
from meow_lightning.evaluation.protocols.registry import PROTOCOLS, counted_rows, generation_batches
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.carry_over import can_carry_over
from meow_lightning.stages.common.chunks import adaptive_batch_size, in_chunks
from meow_lightning.stages.common.loading import evaluator, load_dataset
from meow_lightning.types import AnswerRow

if TYPE_CHECKING:
    from meow_lightning.data.prompting import PromptEncoder

VERSION = 7
MAKES = ("rows.jsonl",)
CHUNK = 256  # questions answered together, enough prompts to fill a generation batch on a CPU


def _note_truncated_answers(
    work: StageContext, name: str, codec: PromptEncoder, sets: Mapping[str, Sequence[Example]]
) -> None:
    from meow_lightning.evaluation.protocols.predict import truncated_facts

    if rank() != 0:
        return
    for each, facts in sets.items():
        if count := truncated_facts(name, codec, facts):
            work.warn(
                f"{count} of {len(facts)} true answers of set {each!r} have more tokens than {PROTOCOLS[name].source} "
                "lets a model generate, so even a verbatim answer counts only in part (evaluation.protocol=none "
                "generates as many tokens as they need)"
            )


def run(work: StageContext) -> None:
    """Write ``rows.jsonl``, one line per question of every evaluation set; finished lines survive a kill."""
    from meow_lightning.evaluation.predict import generation_budget, generation_prompt, predict
    from meow_lightning.evaluation.protocols.predict import predict_under_protocol

    if can_carry_over(work, MAKES):
        return
    model, codec = evaluator(work)
    settings, runtime = work.settings["evaluation"], work.runtime
    name = settings.get("protocol", "none")
    sets = {
        each: counted_rows(name, facts)
        for each, facts in load_dataset(work).evaluation().items()
        if each in work.settings["sets"]
    }
    questions = [(each, index, fact) for each, facts in sets.items() for index, fact in enumerate(facts)]
    if name == "none":
        longest = max(len(generation_prompt(codec, fact)) for _, _, fact in questions)
        most = max(
            generation_budget(codec, fact, max_new_tokens=settings["max_new_tokens"]) for _, _, fact in questions
        )
        slots = adaptive_batch_size(work, model, tokens=longest, generated=most, shared=False)
    else:
        _note_truncated_answers(work, name, codec, sets)

    def make(numbers: Sequence[int], progress: Callable[[int], None]) -> Iterator[tuple[int, AnswerRow]]:
        batch = [questions[number] for number in numbers]
        if name == "none":
            rows = predict(
                model, codec, batch, max_new_tokens=settings["max_new_tokens"], batch=runtime.eval_batch_size,
                slots=slots, gradients=settings["gradients"], progress=progress,
            )  # fmt: skip
        else:
            rows = predict_under_protocol(
                name,
                model,
                codec,
                batch,
                batch=runtime.eval_batch_size,
                gradients=settings["gradients"],
                progress=progress,
            )
        yield from zip(numbers, rows, strict=True)

    groups = generation_batches(name, [len(facts) for facts in sets.values()])
    least = CHUNK if name == "none" else 1
    in_chunks(work, groups, sizes=[1] * len(questions), least=least, unit="questions", name="rows.jsonl", make=make)
