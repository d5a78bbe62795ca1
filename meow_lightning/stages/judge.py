"""judge: have a language model say which answers of a model and its pruned proxy are correct."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from meow_lightning.data.encoding import estimated_length
from meow_lightning.distributed import barrier, device, rank
from meow_lightning.errors import UserError
from meow_lightning.evaluation.reading_judge import Reading
from meow_lightning.evaluation.slim import SlimRow
from meow_lightning.resources.requirements import ROW_BYTES, InferenceWork, Planner
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.stages.common.chunks import in_chunks
from meow_lightning.stages.results.judge import JudgeResult
from meow_lightning.stages.results.model import model_folder
from meow_lightning.stages.results.slim import SlimResult
from meow_lightning.stages.slim import CHUNK, slim_questions
from meow_lightning.store.artifact import Artifact

READER = "reader"  # name of the settings, of the inputs, and of the language model among the needs
ANSWERS = "answers"  # the answers among the needs
HEADING = "Reply:"  # what a prompt ends in for a model without chat template


class Judge(Stage):
    """Ask a language model about the answers of the probe."""

    name = "judge"
    version = 1
    after = ("slim",)
    outputs = JudgeResult.files
    selected_with = ("slim",)
    absent = "goal=judge asks no language model without one; set probe=slim judge@probe.judge.reader=local"
    splits = True

    def describe_work(self, artifact: Artifact, planner: Planner) -> InferenceWork:
        """Describe one forward pass over question and answer for either model."""
        facts = [each.fact for each in slim_questions(planner.dataset)]
        texts = sum(len(text) for name, text in artifact.settings[READER]["prompt"].items() if name != "version")
        longest = max(len(fact.question) for fact in facts) + 4 * artifact.settings["max_new_tokens"]
        tokens = estimated_length("a" * (texts + longest))
        load = planner.teacher_load(
            dtype=artifact.settings[READER]["dtype"], prompts=2 * len(facts), tokens=tokens, generated=1
        )  # fmt: skip
        return InferenceWork(
            items=len(facts), rows=0, load=load, generation_batch_size=1, tokens=2 * len(facts) * tokens,
            scored=2 * len(facts),
        )  # fmt: skip

    def disk(self, artifact: Artifact, planner: Planner) -> int:
        """Estimate the bytes of the answers and of the readings."""
        return len(slim_questions(planner.dataset)) * 4 * ROW_BYTES

    def run(self, work: StageContext) -> None:
        """Write one reading per question, and the answers beside; finished lines survive a kill.

        Raises:
            UserError: The language model cannot be loaded or cannot say Yes or No, or an answer does not fit.
        """
        rows = SlimResult.read(work.needs[ANSWERS]).rows
        read = _reader(work)

        def make(numbers: Sequence[int], progress: Callable[[int], None]) -> Iterator[tuple[int, Reading]]:
            for done, number in enumerate(numbers, start=1):
                row: SlimRow = rows[number]
                yield number, Reading(own=read(row.question, row.text), proxy=read(row.question, row.proxy_text))
                progress(done)

        in_chunks(
            work, [[number] for number in range(len(rows))], sizes=[1] * len(rows), least=CHUNK, unit="questions",
            name=JudgeResult.readings_file, make=make,
        )  # fmt: skip
        if rank() == 0:
            SlimResult(rows).write(work.folder)
        barrier(work.runtime.accelerator)


def _reader(work: StageContext) -> Callable[[str, str], float]:
    """Load the language model; returns the function that reads an answer to a question: log-odds of Yes."""
    from meow_lightning.evaluation.reading_judge import log_odds, next_logits, yes_no_tokens
    from meow_lightning.inversion.chat_model import folds_system, prompt_ids
    from meow_lightning.inversion.local_model import LocalModel
    from meow_lightning.inversion.prompt_template import chat

    chosen: Mapping[str, Any] = work.inputs[READER]["node"]
    local = LocalModel(
        name=f"{work.inputs[READER]['option']}.model={chosen['model']}", folder=model_folder(work.needs[READER]),
        dtype=chosen["dtype"], attention=chosen["attention"], device=str(device(work.runtime.accelerator)),
        adaptive_batch_size=lambda *_, **__: None,
    )  # fmt: skip
    codec = local.codec({"template": "{question}", "answer_prefix": ""})
    texts = {name: text for name, text in chosen["prompt"].items() if name != "version"}
    with local.named_errors():
        folded, (yes, no) = folds_system(codec.tokenizer), yes_no_tokens(codec.tokenizer)

    def read(question: str, answer: str) -> float:
        messages = chat(texts, {"question": question, "answer": answer}, user=["user"])
        ids = prompt_ids(codec, messages, folded=folded, heading=HEADING)
        if len(ids) > codec.context:
            raise UserError(
                f"{local.name} reads {codec.context} tokens, but the prompt with question and answer has {len(ids)}; "
                "choose a model with a longer context or lower evaluation.max_new_tokens"
            )
        return log_odds(next_logits(local.model, ids), yes, no)

    return read
