"""Gradient norm of an answer's loss, computed without materialising the full gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from meow_lightning.data.collate import collate, collate_without_targets
from meow_lightning.models.logprobs import answer_nll
from meow_lightning.types import Encoded, TokenBatch

# Entries squared at once: a full fp64 copy would dominate peak memory and fragment a CPU's heap. A 136M Llama peaked at
# 1.5 GB with the CPU's blocks and at 2.0 GB with the GPU's, which are larger in order to launch fewer kernels.
CPU_PIECE, GPU_PIECE = 2**18, 2**22


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
    weights = list(model.parameters())
    frozen = [weight for weight in weights if not weight.requires_grad]
    squares: list[torch.Tensor] = []

    def take(weight: torch.Tensor) -> None:
        if weight.grad is not None:
            squares.append(_squares(weight.grad))
            weight.grad = None

    hooks = []
    try:
        for weight in weights:
            weight.requires_grad_(True)
            weight.grad = None
            hooks.append(weight.register_post_accumulate_grad_hook(take))
        for index, row in enumerate(rows):
            squares.clear()
            only = collate([row], pad_id=pad_id)
            if mask_pad_ids:
                only = collate_without_targets(only, pad_id=pad_id)
            only = TokenBatch(*(tensor.to(weights[0].device) for tensor in only))
            (answer_nll(model, only).sum() / row.scored).backward()  # type: ignore[no-untyped-call]
            each = torch.stack(squares)
            yield index, (each.sqrt().mean() if mean_over_tensors else each.sum().sqrt()).item()
    finally:
        for hook in hooks:
            hook.remove()
        for weight in weights:
            weight.grad = None  # an interrupted pass may have left some
        for weight in frozen:
            weight.requires_grad_(False)


def _squares(gradient: torch.Tensor) -> torch.Tensor:
    """Sum of squares, fp64."""
    size = CPU_PIECE if gradient.device.type == "cpu" else GPU_PIECE
    pieces = (piece.double() for piece in gradient.reshape(-1).split(size))
    return torch.stack([piece.dot(piece) for piece in pieces]).sum()
