"""Requirements of ability tasks, and their checks before any work."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.data.encoding import CHARACTERS
from meow_lightning.evaluation.ability import BLOCK, LocalQuestions
from meow_lightning.pipeline.worker import silence_third_party
from meow_lightning.resources.cost import inference_flops
from meow_lightning.resources.inference_memory import inference_memory
from meow_lightning.resources.training_memory import GPU_SLACK, HEAP_SLACK, Memory, ModelDims
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store

SCORED = 16  # columns with logits at the same time; the head runs over few positions at once


def question_count(artifact: Artifact) -> int:
    """Count the questions of an ability task; for one without local questions ``ability.limit``, or 0 if unknown."""
    limit = artifact.settings["limit"]
    known = (artifact.inputs.get("amount") or (limit or 0,))[0]
    return int(known if limit is None else min(known, limit))


def ability_memory(shape: ModelDims, *, weight_bytes: int, gpu: bool) -> Memory:
    """Compute the peak memory of an ability task: the weights and a pass over one block of questions.

    Args:
        shape: The model's dimensions.
        weight_bytes: Bytes per weight and value.
        gpu: Whether the model is on a GPU.
    """
    return inference_memory(
        shape, weight_bytes=weight_bytes, rows=1, tokens=round(BLOCK / CHARACTERS), scored=SCORED, slots=0,
        generated=0, shared=False, slack=GPU_SLACK if gpu else HEAP_SLACK,
    )  # fmt: skip


def ability_flops(shape: ModelDims, artifact: Artifact) -> int:
    """Count the floating-point operations of an ability task; 0 for one without local questions."""
    if "amount" not in artifact.inputs:
        return 0
    questions, characters = artifact.inputs["amount"]
    tokens = round(characters / CHARACTERS * question_count(artifact) / max(1, questions))
    return inference_flops(shape, tokens=tokens, scored=tokens)


def check_abilities(artifacts: Sequence[Artifact], store: Store) -> list[str]:
    """Load the tasks that will run, so that an invalid or unreachable one is reported before any work.

    Args:
        artifacts: The artifacts of the run's goal.
        store: The store of results.

    Returns:
        Notes on tasks that cannot run.

    Raises:
        UserError: A task is invalid, unknown or cannot be loaded.
    """
    tasks = {
        each.settings["task"]: each for each in artifacts if each.stage == "ability" and store.find(each) is None
    }  # fmt: skip
    if tasks:
        silence_third_party()  # before they are imported, since this process may run stages later
    for name, artifact in tasks.items():
        from meow_lightning.evaluation.harness import HarnessTask

        settings, inputs = artifact.settings, artifact.inputs
        local = None
        if "data" in settings:
            local = LocalQuestions(task=name, files=inputs["files"], folder=inputs["folder"])
        HarnessTask(
            name, config=settings.get("config"), local=local, num_fewshot=settings["num_fewshot"],
            limit=settings["limit"],
        )  # fmt: skip
    unmeasured = [
        task for each in artifacts if each.stage == "evaluate" for task in each.settings.get("unmeasured", ())
    ]
    return [f"{each['task']} is not measured: {each['reason']}" for each in unmeasured]
