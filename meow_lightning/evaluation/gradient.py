"""Gradient norm of an answer's loss, computed without materialising the full gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from meow_lightning.data.collate import collate, collate_without_targets
from meow_lightning.models.logprobs import answer_nll
from meow_lightning.types import Encoded, TokenBatch

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
    weights = list(model.parameters())
    frozen = [weight for weight in weights if not weight.requires_grad]
    squares: list[torch.Tensor] = []

    def add_squares(weight: torch.Tensor) -> None:
        if weight.grad is not None:
            squares.append(_squares(weight.grad))
            weight.grad = None

    hooks = []
    try:
        for weight in weights:
            weight.requires_grad_(True)
            weight.grad = None
            hooks.append(weight.register_post_accumulate_grad_hook(add_squares))
        for index, row in enumerate(rows):
            squares.clear()
            batch = collate([row], pad_id=pad_id)
            if mask_pad_ids:
                batch = collate_without_targets(batch, pad_id=pad_id)
            batch = TokenBatch(*(tensor.to(weights[0].device) for tensor in batch))
            (answer_nll(model, batch).sum() / row.scored).backward()  # type: ignore[no-untyped-call]
            per_tensor = torch.stack(squares)
            yield index, (per_tensor.sqrt().mean() if mean_over_tensors else per_tensor.sum().sqrt()).item()
    finally:
        for hook in hooks:
            hook.remove()
        for weight in weights:
            weight.grad = None  # an interrupted pass may have left some
        for weight in frozen:
            weight.requires_grad_(False)


def _squares(gradient: torch.Tensor) -> torch.Tensor:
    """Sum the squares of all entries in fp64, block by block."""
    size = CPU_BLOCK if gradient.device.type == "cpu" else GPU_BLOCK
    blocks = (block.double() for block in gradient.reshape(-1).split(size))
    return torch.stack([block.dot(block) for block in blocks]).sum()
