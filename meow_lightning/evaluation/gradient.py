"""Gradients of answers' losses: norms without materialising a gradient, and cosines between a few of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from meow_lightning.data.collate import collate, collate_without_targets, to_device
from meow_lightning.models.logprobs import answer_nll
from meow_lightning.types import Encoded

# Entries squared at a time: a full fp64 copy would dominate peak memory and fragment a CPU's heap. A 136M Llama peaked
# at 1.5 GB with CPU_BLOCK and at 2.0 GB with GPU_BLOCK, which is larger in order to launch fewer kernels.
CPU_BLOCK, GPU_BLOCK = 2**18, 2**22


@torch.inference_mode(False)
@torch.enable_grad()
def gradient_norms(
    model: torch.nn.Module, rows: Sequence[Encoded], *, pad_id: int, mask_pad_ids: bool, mean_over_tensors: bool = False
) -> Iterator[tuple[int, float]]:
    """Yield each row's index and the norm of the gradient of its mean loss, in order.

        ||g||_2,   g = d/dtheta (1 / T) sum_t -log p(token t | prompt, earlier tokens)

    theta are all weights, frozen ones included and tied ones counted once; T is the number of scored tokens. Rows are
    processed one at a time so that batching cannot change the result. A weight's gradient is freed as soon as its
    squares are added (in fp64), so memory holds the model, one row's activations and the largest gradient, never a
    second copy of the model. Afterwards no gradients remain and frozen weights are frozen again.

    Args:
        model: A causal language model in evaluation mode; its existing gradients are discarded.
        rows: Prompt and answer as tokens.
        pad_id: Token id of padding.
        mask_pad_ids: As for :func:`~.loglikelihood.loglikelihoods`.
        mean_over_tensors: Return the mean over weight tensors of their gradients' norms, as open-unlearning does,
            instead of the norm of the whole gradient.
    """
    if not rows:  # leave the gradients of a model in training alone
        return
    squares: list[torch.Tensor] = []

    def add_squares(weight: torch.Tensor) -> None:
        if weight.grad is not None:
            squares.append(_squares(weight.grad))
            weight.grad = None

    with _all_trainable(model, hook=add_squares):
        for index, row in enumerate(rows):
            squares.clear()
            _backward_mean_loss(model, row, pad_id=pad_id, mask_pad_ids=mask_pad_ids)
            per_tensor = torch.stack(squares)
            yield index, (per_tensor.sqrt().mean() if mean_over_tensors else per_tensor.sum().sqrt()).item()


@torch.inference_mode(False)
@torch.enable_grad()
def gradient_cosines(model: torch.nn.Module, rows: Sequence[Encoded], *, pad_id: int) -> list[list[float]]:
    """Compute the cosines between the gradients of the rows' mean losses.

        C[i, j] = <g_i, g_j> / (||g_i|| ||g_j||),   g_i as in :func:`gradient_norms`

    Above 0, a step on one row lowers the other's loss; below 0, the two pull against each other. Memory holds one full
    gradient per row in the precision of the weights; sums are in fp64.

    Args:
        model: A causal language model in evaluation mode; its existing gradients are discarded.
        rows: Prompt and answer as tokens, a few.
        pad_id: Token id of padding.

    Returns:
        The matrix, (rows, rows), each -1 to 1; 0 where a gradient vanishes.
    """
    gradients: list[list[torch.Tensor | None]] = []
    with _all_trainable(model) as weights:
        for row in rows:
            _backward_mean_loss(model, row, pad_id=pad_id, mask_pad_ids=False)
            gradients.append([weight.grad for weight in weights])
            for weight in weights:
                weight.grad = None
    products = [[_product(one, other) for other in gradients[: i + 1]] for i, one in enumerate(gradients)]
    lengths = [products[i][i] ** 0.5 for i in range(len(rows))]

    def cosine(i: int, j: int) -> float:
        scale = lengths[i] * lengths[j]
        return products[max(i, j)][min(i, j)] / scale if scale else 0.0

    return [[cosine(i, j) for j in range(len(rows))] for i in range(len(rows))]


@contextmanager
def _all_trainable(
    model: torch.nn.Module, *, hook: Callable[[torch.Tensor], None] | None = None
) -> Iterator[list[torch.nn.Parameter]]:
    """Let all weights have gradients, none at first, each passed to ``hook`` once complete; restored afterwards."""
    weights = list(model.parameters())
    frozen = [weight for weight in weights if not weight.requires_grad]
    hooks = []
    try:
        for weight in weights:
            weight.requires_grad_(True)
            weight.grad = None
            if hook is not None:
                hooks.append(weight.register_post_accumulate_grad_hook(hook))
        yield weights
    finally:
        for each in hooks:
            each.remove()
        for weight in weights:
            weight.grad = None  # an interrupted pass may have left some
        for weight in frozen:
            weight.requires_grad_(False)


def _backward_mean_loss(model: torch.nn.Module, row: Encoded, *, pad_id: int, mask_pad_ids: bool) -> None:
    batch = collate([row], pad_id=pad_id)
    if mask_pad_ids:
        batch = collate_without_targets(batch, pad_id=pad_id)
    batch = to_device(batch, next(model.parameters()).device)
    (answer_nll(model, batch).sum() / row.scored).backward()  # type: ignore[no-untyped-call]


def _product(one: Sequence[torch.Tensor | None], other: Sequence[torch.Tensor | None]) -> float:
    """Sum the products of all entries in fp64; a weight without a gradient counts as 0."""
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    return sum(_dot(a, b).item() for a, b in pairs)


def _squares(gradient: torch.Tensor) -> torch.Tensor:
    """Sum the squares of all entries in fp64."""
    return _dot(gradient, gradient)


def _dot(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Sum the products of all entries in fp64, block by block."""
    size = CPU_BLOCK if one.device.type == "cpu" else GPU_BLOCK
    pairs = zip(one.reshape(-1).split(size), other.reshape(-1).split(size), strict=True)
    return torch.stack([a.double().dot(b.double()) for a, b in pairs]).sum()
