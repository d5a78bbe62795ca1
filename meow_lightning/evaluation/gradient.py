"""How strongly an answer still moves a model: the norm of its loss's gradient, without ever holding all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from meow_lightning.data.collate import collate, collate_without_targets
from meow_lightning.models.logprobs import answer_nll
from meow_lightning.types import Encoded, TokenBatch

# Entries squared at once, lest the fp64 copy be the largest thing there is; large copies also tear a CPU's heap apart:
# a 136M Llama's peak was 1.5 GB so, and 2.0 GB with the GPU's pieces, which are larger to start fewer kernels.
CPU_PIECE, GPU_PIECE = 2**18, 2**22


@torch.inference_mode(False)
@torch.enable_grad()
def gradient_norms(
    model: torch.nn.Module, rows: Sequence[Encoded], *, pad_id: int, mask_pad_ids: bool, mean_over_tensors: bool = False
) -> Iterator[tuple[int, float]]:
    """(index, norm of the gradient of the mean loss) of each row, in their order.

        ||g||_2,   g = d/dtheta (1 / T) sum_t -log p(token t | prompt, earlier tokens)

    theta are all weights, tied ones once and frozen ones too, T the scored tokens. One row at a time, so that the batch
    changes nothing. A weight's gradient goes as soon as its squares are added (in fp64), so there is never a second
    copy of the model: beside it stand one row's activations and the largest gradient. Afterwards no gradient is left,
    and what was frozen is so again.

    Args:
        model: A causal language model in evaluation mode; gradients that it holds are thrown away.
        rows: Prompt and answer as tokens.
        pad_id: Token id of padding.
        mask_pad_ids: As for :func:`~.likelihood.likelihoods`.
        mean_over_tensors: The mean of the norms of every weight tensor's own gradient, as open-unlearning has it, in
            the place of the norm of the whole gradient.
    """
    if not rows:  # a model in training keeps what it has
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
            weight.grad = None  # a pass that was broken off may have left some
        for weight in frozen:
            weight.requires_grad_(False)


def _squares(gradient: torch.Tensor) -> torch.Tensor:
    """The sum of the squares, fp64."""
    size = CPU_PIECE if gradient.device.type == "cpu" else GPU_PIECE
    pieces = (piece.double() for piece in gradient.reshape(-1).split(size))
    return torch.stack([piece.dot(piece) for piece in pieces]).sum()
