"""The memory that asking a model takes, and how many prompts may be continued side by side in the memory there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from meow_lightning.errors import UserError
from meow_lightning.resources.training_memory import (
    GPU_SLACK,
    HEAP_SLACK,
    PROGRAM,
    Memory,
    ModelDims,
    dims_of,
    training_memory,
)

CPU_SLOTS, GPU_SLOTS = 256, 512  # most prompts side by side: more bring little speed
CPU_SHARE, GPU_SHARE = 0.5, 0.8  # of the free memory; on a CPU stages run side by side
UNKNOWN_SLOTS = 64  # where the configuration does not tell a model's sizes
# As in meow_lightning.memo, which cannot be asked without torch.
NODES_PER_SLOT = 16
LARGEST_TREE = 160
PAGE = 16
STEP = 32


def inference_memory(  # noqa: PLR0913 - every one is a size
    shape: ModelDims, *, weight_bytes: int, rows: int, tokens: int, scored: int, slots: int, generated: int,
    shared: bool, slack: float = HEAP_SLACK,
) -> Memory:  # fmt: skip
    """The peak of asking a model: the weights and the larger of a scoring pass and of generation.

    Scoring holds two numbers per scored column and entry, logits and log-probabilities, after one layer's work has
    gone. Generation (:mod:`meow_lightning.generation.engine`), with w = ``weight_bytes``, holds keys and values of

        K = 2 w layers kv_heads head bytes        per token
        N = max(16 slots, tree) tokens            of a grove; a tree has 160 or, where prompts are longer, 2 ``tokens``
        S = 16 (slots ceil(t / 16) + 32) tokens   of the slots' own, in pages of 16, of which 32 are taken at a time

    where prompts share their beginnings, two groves (rows still read the last one) and t = ``generated``; else one
    grove and t = ``tokens`` + ``generated``. Beside them stands the largest of: a layer's work on a grove, the grove's
    logits N V w (and 4 N V more where w = 2, since the best is sought in fp32), and S K again while room for the slots'
    tokens grows. A grove's mask, N tree (w + 2), belongs to the work.

    Args:
        shape: The model.
        weight_bytes: Per weight and value.
        rows: Rows per scoring pass (``trainer.eval_batch_size``); 0 for none.
        tokens: Tokens of the longest row, and of the longest prompt.
        scored: Columns of a pass in which some row is scored.
        slots: Prompts generated side by side; 0 for no generation.
        generated: Most new tokens of a prompt.
        shared: Whether many prompts begin alike, as the windows of a text do.
        slack: As in :func:`meow_lightning.resources.training_memory.training_memory`; in generation for
            keys, values and work, as a grove's logits and a copy are single pieces.
    """
    work = (max(2, shape.kept - 1) * shape.intermediate + 4 * shape.heads * shape.head) * weight_bytes
    logits = rows * scored * shape.vocabulary * 2 * max(4, weight_bytes)
    parts = [[int(slack * max(0, rows * tokens * work - logits)), int(slack * logits), 0]]
    if slots:
        tree = max(LARGEST_TREE, 2 * tokens) if shared else tokens
        nodes = max(NODES_PER_SLOT * slots, tree)
        token = 2 * shape.kv_heads * shape.head * shape.layers * weight_bytes
        own = PAGE * token * (slots * -(-(generated + (0 if shared else tokens)) // PAGE) + STEP)
        asked = nodes * shape.vocabulary * (weight_bytes + (4 if weight_bytes < 4 else 0))
        beside = max(int(slack * nodes * (work + tree * (weight_bytes + 2))), own)
        parts.append([max(0, beside - asked), asked, int(slack * ((2 if shared else 1) * nodes * token + own))])
    activations, logits, cache = max(parts, key=sum)
    return Memory(
        weights=shape.parameters * weight_bytes, gradients=0, optimizer=0, activations=activations, logits=logits,
        cache=cache, program=PROGRAM,
    )  # fmt: skip


def gradient_memory(
    shape: ModelDims, *, weight_bytes: int, tokens: int, scored: int, slack: float = HEAP_SLACK
) -> Memory:
    """The peak of the gradient of one row's loss, where the part of each weight goes as soon as its norm is known.

    Activations and logits are those of a training with one row per pass. Of gradients there is the largest, V h or h i;
    where embedding and head are one matrix, 2 V h: that of the head waits for that of the embedding.

    Args:
        shape: The model.
        weight_bytes: Per weight and value.
        tokens: Tokens of the longest row.
        scored: Scored tokens of the longest answer.
        slack: As in :func:`meow_lightning.resources.training_memory.training_memory`.
    """
    passed = training_memory(
        shape, weight_bytes=weight_bytes, compute_bytes=weight_bytes, rows=1, tokens=tokens, scored=scored,
        gradient_checkpointing=False, trained=shape.parameters, slack=slack,
    )  # fmt: skip
    largest = shape.hidden * max(shape.vocabulary * (2 if shape.tied else 1), shape.intermediate)
    return replace(passed, gradients=int(slack * largest * weight_bytes), optimizer=0)


def largest_generation_batch(
    shape: ModelDims,
    *,
    weight_bytes: int,
    tokens: int,
    generated: int,
    shared: bool,
    there: int,
    most: int,
    slack: float,
) -> int:
    """The largest of most, most/2, most/4, … 1 prompts whose generation fits beside the weights; 1 where none does.

    Args:
        shape: The model.
        weight_bytes: Per weight and value.
        tokens: Tokens of the longest prompt.
        generated: Most new tokens of a prompt.
        shared: As in :func:`inference_memory`.
        there: Bytes for all but weights and program, which are there already.
        most: Prompts to begin with, from 1.
        slack: As in :func:`inference_memory`.
    """
    slots = most
    while slots > 1:
        need = inference_memory(
            shape, weight_bytes=weight_bytes, rows=0, tokens=tokens, scored=0, slots=slots, generated=generated,
            shared=shared, slack=slack,
        )  # fmt: skip
        if need.activations + need.logits + need.cache <= there:
            break
        slots //= 2
    return slots


def fit_generation_batch_size(
    config: Mapping[str, Any], *, parameters: int, weight_bytes: int, tokens: int, generated: int, shared: bool,
    gpu: bool, free: int,
) -> int:  # fmt: skip
    """How many prompts a loaded model continues side by side: what a part of the free memory holds, up to a bound.

    Args:
        config: The model's ``config.json``; one that does not tell the sizes gives a careful number.
        parameters: Weights in all.
        weight_bytes: Per weight and value.
        tokens: Tokens of the longest prompt.
        generated: Most new tokens of a prompt.
        shared: As in :func:`inference_memory`; a model of sliding windows shares nothing.
        gpu: Whether it is on a GPU.
        free: Bytes that are free where it is, on a GPU or of this machine.
    """
    try:
        shape = dims_of(config, parameters=parameters)
    except UserError:
        return UNKNOWN_SLOTS
    shared = shared and not config.get("sliding_window")
    asked = InferenceLoad(
        texts=0, prompts=GPU_SLOTS, weight_bytes=weight_bytes, tokens=tokens, scored=0, generated=generated,
        shared=shared, gradient=False, gpu=gpu, parallel_stages=1,
    )  # fmt: skip
    return _slots(shape, asked, free=free)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceLoad:
    """What a stage asks a model, and where.

    Arguments of :func:`inference_memory`; ``texts``: rows that are scored and ``prompts``: prompts that are continued,
    in all, which bound what stands side by side; ``gradient``: of some rows the gradient is taken too, one at a time;
    ``gpu`` chooses bound and slack; ``parallel_stages``: stages that share the memory, from 1.
    """

    texts: int
    prompts: int

    weight_bytes: int
    tokens: int
    scored: int
    generated: int
    shared: bool
    gradient: bool
    gpu: bool
    parallel_stages: int

    @property
    def slack(self) -> float:
        """Memory taken over memory in use."""
        return GPU_SLACK if self.gpu else HEAP_SLACK


def _slots(shape: ModelDims, asked: InferenceLoad, *, free: int) -> int:
    return largest_generation_batch(
        shape, weight_bytes=asked.weight_bytes, tokens=asked.tokens, generated=asked.generated, shared=asked.shared,
        there=int(free * (GPU_SHARE if asked.gpu else CPU_SHARE)), most=GPU_SLOTS if asked.gpu else CPU_SLOTS,
        slack=asked.slack,
    )  # fmt: skip


def inference_need(
    shape: ModelDims, asked: InferenceLoad, *, rows: int, generation_batch_size: int | None, there: int
) -> Memory:
    """The peak of asking a model.

    Args:
        shape: The model.
        asked: What it is asked.
        rows: Rows per scoring pass (``trainer.eval_batch_size``).
        generation_batch_size: Prompts generated side by side (``trainer.generation_batch_size``); ``None`` for what
            would fit, as a stage will find it.
        there: Bytes for all stages; they only matter where ``generation_batch_size`` is ``None``.
    """
    if generation_batch_size is None:
        generation_batch_size = _slots(
            shape, asked, free=there // asked.parallel_stages - shape.parameters * asked.weight_bytes - PROGRAM
        )
    asking = inference_memory(
        shape, weight_bytes=asked.weight_bytes, rows=min(rows, asked.texts), tokens=asked.tokens, scored=asked.scored,
        slots=min(generation_batch_size, asked.prompts), generated=asked.generated, shared=asked.shared,
        slack=asked.slack,
    )  # fmt: skip
    if not asked.gradient:
        return asking
    gradient = gradient_memory(
        shape, weight_bytes=asked.weight_bytes, tokens=asked.tokens, scored=asked.scored, slack=asked.slack
    )
    return max(asking, gradient, key=lambda memory: memory.total)


def inference_settings_that_fit(
    shape: ModelDims, asked: InferenceLoad, *, rows: int, generation_batch_size: int | None, there: int
) -> list[tuple[str, int]]:
    """The settings under which asking fits into ``there`` bytes, with the total; none where nothing helps.

    Arguments are those of :func:`inference_need`. Only what becomes smaller is named; no number of slots is given where
    memory decides it. The gradient, and with it a number, is given up last.
    """
    rooms = ((rows, generation_batch_size or 0), (8, 16), (1, 1))
    for gradient, (fewer_rows, fewer_slots) in product(dict.fromkeys((asked.gradient, False)), rooms):
        less = {"trainer.eval_batch_size": min(rows, fewer_rows)}
        if generation_batch_size is not None:
            less["trainer.generation_batch_size"] = min(generation_batch_size, fewer_slots)
        total = inference_need(
            shape, replace(asked, gradient=gradient), rows=less["trainer.eval_batch_size"],
            generation_batch_size=less.get("trainer.generation_batch_size"), there=there,
        ).total  # fmt: skip
        now = {"trainer.eval_batch_size": rows, "trainer.generation_batch_size": generation_batch_size}
        changed = [f"{name}={value}" for name, value in less.items() if value != now[name]]
        changed += ["evaluation.gradient_norm=false"] * (gradient != asked.gradient)
        if changed and total <= there:
            return [(" ".join(changed), total)]
    return []
