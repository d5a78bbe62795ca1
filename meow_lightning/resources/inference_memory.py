"""Memory of inference, and the generation batch size that fits the available memory."""

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

CPU_SLOTS, GPU_SLOTS = 256, 512  # maximum prompts per batch: larger batches are hardly faster
CPU_SHARE, GPU_SHARE = 0.5, 0.8  # usable share of the free memory; on a CPU, stages run in parallel
UNKNOWN_SLOTS = 64  # if the config does not state a model's dimensions
# As in meow_lightning.generation, which cannot be imported without torch.
NODES_PER_SLOT = 16
LARGEST_TREE = 160
PAGE = 16
STEP = 32


def inference_memory(  # noqa: PLR0913 - every one is a size
    shape: ModelDims, *, weight_bytes: int, rows: int, tokens: int, scored: int, slots: int, generated: int,
    shared: bool, slack: float = HEAP_SLACK,
) -> Memory:  # fmt: skip
    """Compute the peak memory of inference: the weights and the larger of a scoring pass and of generation.

    Scoring keeps two numbers per scored column and vocabulary entry, logits and log-probabilities, after one layer's
    intermediate tensors. Generation (:mod:`meow_lightning.generation.engine`), with w = ``weight_bytes``, keeps keys
    and values of

        K = 2 w layers kv_heads head bytes        per token
        N = max(16 slots, tree) tokens            of a tree batch; a tree has 160 or, for longer prompts, 2 ``tokens``
        S = 16 (slots ceil(t / 16) + 32) tokens   of the slots' own, in pages of 16, allocated 32 at a time

    with two tree batches (rows still read the previous one) and t = ``generated`` if prompts share prefixes, else one
    tree batch and t = ``tokens`` + ``generated``. In addition, the largest of: a layer's intermediate tensors on a tree
    batch, its logits N V w (and 4 N V more for w = 2, since the argmax is computed in fp32), and S K again while the
    pages grow. A tree batch's mask, N tree (w + 2), belongs to the intermediate tensors.

    Args:
        shape: The model's dimensions.
        weight_bytes: Bytes per weight and value.
        rows: Rows per scoring pass (``trainer.eval_batch_size``); 0 for none.
        tokens: Tokens of the longest row or prompt.
        scored: Columns of a pass in which any row is scored.
        slots: Prompts per generation batch; 0 for no generation.
        generated: Maximum number of new tokens per prompt.
        shared: Whether many prompts share prefixes, as the windows of a text do.
        slack: As in :func:`meow_lightning.resources.training_memory.training_memory`; in generation for keys, values
            and intermediate tensors only, since logits and page copies are single allocations.
    """
    work = (max(2, shape.kept - 1) * shape.intermediate + 4 * shape.heads * shape.head) * weight_bytes
    logits = rows * scored * shape.vocabulary * 2 * max(4, weight_bytes)
    parts = [[int(slack * max(0, rows * tokens * work - logits)), int(slack * logits), 0]]
    if slots:
        tree = max(LARGEST_TREE, 2 * tokens) if shared else tokens
        nodes = max(NODES_PER_SLOT * slots, tree)
        token = 2 * shape.kv_heads * shape.head * shape.layers * weight_bytes
        own = PAGE * token * (slots * -(-(generated + (0 if shared else tokens)) // PAGE) + STEP)
        logits = nodes * shape.vocabulary * (weight_bytes + (4 if weight_bytes < 4 else 0))
        transient = max(int(slack * nodes * (work + tree * (weight_bytes + 2))), own)
        parts.append([max(0, transient - logits), logits, int(slack * ((2 if shared else 1) * nodes * token + own))])
    activations, logits, cache = max(parts, key=sum)
    return Memory(
        weights=shape.parameters * weight_bytes, gradients=0, optimizer=0, activations=activations, logits=logits,
        cache=cache, program=PROGRAM,
    )  # fmt: skip


def gradient_memory(
    shape: ModelDims, *, weight_bytes: int, tokens: int, scored: int, slack: float = HEAP_SLACK
) -> Memory:
    """Compute the peak memory of one row's loss gradient, if each weight's gradient is freed once its norm is known.

    Activations and logits are those of training with one row per pass. Of the gradients, only the largest exists, V h
    or h i; if embedding and head are tied, 2 V h: the head's gradient waits for the embedding's.

    Args:
        shape: The model's dimensions.
        weight_bytes: Bytes per weight and value.
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
    available: int,
    most: int,
    slack: float,
) -> int:
    """Find the largest of most, most/2, most/4, … 1 prompts for which generation fits; 1 if none does.

    Args:
        shape: The model's dimensions.
        weight_bytes: Bytes per weight and value.
        tokens: Tokens of the longest prompt.
        generated: Maximum number of new tokens per prompt.
        shared: As in :func:`inference_memory`.
        available: Bytes available besides weights and program, which are loaded already.
        most: Maximum number of prompts, from 1.
        slack: As in :func:`inference_memory`.
    """
    slots = most
    while slots > 1:
        need = inference_memory(
            shape, weight_bytes=weight_bytes, rows=0, tokens=tokens, scored=0, slots=slots, generated=generated,
            shared=shared, slack=slack,
        )  # fmt: skip
        if need.activations + need.logits + need.cache <= available:
            break
        slots //= 2
    return slots


def fit_generation_batch_size(
    config: Mapping[str, Any], *, parameters: int, weight_bytes: int, tokens: int, generated: int, shared: bool,
    gpu: bool, free: int,
) -> int:  # fmt: skip
    """Choose a loaded model's generation batch size: what fits a share of the free memory, up to a maximum.

    Args:
        config: The model's ``config.json``; without dimensions, a conservative number is returned.
        parameters: Number of weights.
        weight_bytes: Bytes per weight and value.
        tokens: Tokens of the longest prompt.
        generated: Maximum number of new tokens per prompt.
        shared: As in :func:`inference_memory`; models with sliding windows do not share prefixes.
        gpu: Whether the model is on a GPU.
        free: Free bytes on its device.
    """
    try:
        shape = dims_of(config, parameters=parameters)
    except UserError:
        return UNKNOWN_SLOTS
    shared = shared and not config.get("sliding_window")
    load = InferenceLoad(
        texts=0, prompts=GPU_SLOTS, weight_bytes=weight_bytes, tokens=tokens, scored=0, generated=generated,
        shared=shared, gradient=False, gpu=gpu, parallel_stages=1,
    )  # fmt: skip
    return _largest_batch(shape, load, free=free)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceLoad:
    """The inference load of a stage, and its device.

    Arguments of :func:`inference_memory`; ``texts``: total rows to score and ``prompts``: total prompts to continue,
    which limit the batch sizes; ``gradient``: whether gradients of some rows are computed too, one at a time; ``gpu``
    selects limit and slack; ``parallel_stages``: stages that share the memory, from 1.
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
        """Ratio of allocated memory to memory in use."""
        return GPU_SLACK if self.gpu else HEAP_SLACK


def _largest_batch(shape: ModelDims, load: InferenceLoad, *, free: int) -> int:
    return largest_generation_batch(
        shape, weight_bytes=load.weight_bytes, tokens=load.tokens, generated=load.generated, shared=load.shared,
        available=int(free * (GPU_SHARE if load.gpu else CPU_SHARE)), most=GPU_SLOTS if load.gpu else CPU_SLOTS,
        slack=load.slack,
    )  # fmt: skip


def inference_need(
    shape: ModelDims, load: InferenceLoad, *, rows: int, generation_batch_size: int | None, available: int
) -> Memory:
    """Compute the peak memory of a stage's inference.

    Args:
        shape: The model's dimensions.
        load: The inference load.
        rows: Rows per scoring pass (``trainer.eval_batch_size``).
        generation_batch_size: Prompts per generation batch (``trainer.generation_batch_size``); ``None`` for the
            largest that fits.
        available: Bytes available to all stages; only relevant if ``generation_batch_size`` is ``None``.
    """
    if generation_batch_size is None:
        generation_batch_size = _largest_batch(
            shape, load, free=available // load.parallel_stages - shape.parameters * load.weight_bytes - PROGRAM
        )
    inference = inference_memory(
        shape, weight_bytes=load.weight_bytes, rows=min(rows, load.texts), tokens=load.tokens, scored=load.scored,
        slots=min(generation_batch_size, load.prompts), generated=load.generated, shared=load.shared,
        slack=load.slack,
    )  # fmt: skip
    if not load.gradient:
        return inference
    gradient = gradient_memory(
        shape, weight_bytes=load.weight_bytes, tokens=load.tokens, scored=load.scored, slack=load.slack
    )
    return max(inference, gradient, key=lambda memory: memory.total)


def inference_settings_that_fit(
    shape: ModelDims, load: InferenceLoad, *, rows: int, generation_batch_size: int | None, available: int
) -> list[tuple[str, int]]:
    """Find settings under which inference fits into ``available`` bytes, with the total; empty if none does.

    Arguments are those of :func:`inference_need`. Only reduced settings are named; no batch size is suggested if memory
    determines it. The gradient, and thus a metric, is given up last.
    """
    sizes = ((rows, generation_batch_size or 0), (8, 16), (1, 1))
    for gradient, (fewer_rows, fewer_slots) in product(dict.fromkeys((load.gradient, False)), sizes):
        less = {"trainer.eval_batch_size": min(rows, fewer_rows)}
        if generation_batch_size is not None:
            less["trainer.generation_batch_size"] = min(generation_batch_size, fewer_slots)
        total = inference_need(
            shape, replace(load, gradient=gradient), rows=less["trainer.eval_batch_size"],
            generation_batch_size=less.get("trainer.generation_batch_size"), available=available,
        ).total  # fmt: skip
        now = {"trainer.eval_batch_size": rows, "trainer.generation_batch_size": generation_batch_size}
        changed = [f"{name}={value}" for name, value in less.items() if value != now[name]]
        changed += ["evaluation.gradient_norm=false"] * (gradient != load.gradient)
        if changed and total <= available:
            return [(" ".join(changed), total)]
    return []
