"""Initial values of adapters that come from the weights they adapt: principal parts, weighted by what is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from meow_lightning.data.collate import collate, to_device
from meow_lightning.errors import UserError
from meow_lightning.models.logprobs import answer_nll
from meow_lightning.models.lora import adapted_layers
from meow_lightning.models.low_rank import low_rank
from meow_lightning.training.module import round_to_grid
from meow_lightning.types import Encoded

DAMPING = 1e-5  # of the retain importance, as a share of its mean over a layer


def initialise_adapters(
    model: torch.nn.Module, *, row_weights: Mapping[str, torch.Tensor] | None, seed: int, grid: float
) -> None:
    """Move the principal part of every adapted weight into its adapter; the model's outputs stay as they are.

    A and B are those of :func:`meow_lightning.models.low_rank.low_rank`, and the frozen weight becomes the residual
    W' = W - s B A, computed in at least float32 from A and B as they are stored. So W' + s B A = W up to rounding:
    1e-7 of a weight in float32; in bfloat16, W' itself is rounded, by up to 2^-9 of a weight. The published code rounds
    A and B to bfloat16 as well. Directions beyond the rank of W keep the values of a default adapter.

    The model without its adapters is no longer the start model, so a frozen reference has to be a copy. And the adapter
    of a checkpoint belongs to the residual: on top of the original weights, as in the published code's files, it gives
    another model. What is saved here are merged weights.

    Args:
        model: The model of :func:`meow_lightning.models.lora.with_lora`, not trained yet; changed in place.
        row_weights: Weights of the rows by layer, see :func:`fisher_row_weights`; ``None`` for equal ones (PiSSA).
        seed: Seed of the approximation of large matrices.
        grid: Round A and B to multiples of this power of two, for reproducible training; 0 to disable.
    """
    with torch.no_grad():
        for name, layer in adapted_layers(model).items():
            weight = (layer.base.T if layer.transposed else layer.base).to(_exact(layer.base))
            made = low_rank(
                weight, rank=len(layer.down), scale=layer.scale, seed=seed,
                row_weights_O=None if row_weights is None else row_weights[name].to(weight),
            )  # fmt: skip
            layer.down[: len(made.down_KI)] = made.down_KI
            layer.up[:, : len(made.down_KI)] = made.up_OK
            if grid:
                round_to_grid((layer.down, layer.up), grid)
            residual = weight - layer.scale * (layer.up.to(weight) @ layer.down.to(weight))
            layer.base.copy_(residual.T if layer.transposed else residual)


def fisher_row_weights(
    model: torch.nn.Module, rows: Mapping[str, Sequence[Encoded]], *, pad_id: int
) -> dict[str, torch.Tensor]:
    """Weigh the rows of every adapted weight by their importance for the forget set relative to the retain set.

        r_i = sqrt(sum_j E_forget[g_ij^2] / (E_retain[g_ij^2] + d)),  g = gradient of log p(answer) of one example

    FILA (Cha et al. 2024, "Towards Robust and Parameter-Efficient Knowledge Unlearning for LLMs", arXiv 2408.06621).
    Every gradient is that of a single example, squared in at least float32, and every process computes all of them in
    the same order: the result depends neither on micro-batches nor on the number of processes. Retain comes first, so
    that only its squares are kept per weight, and of the forget set one sum per row.

    The published code squares the gradient of a batch's mean loss, which mixes examples and depends on the batch size;
    in bfloat16; over as many random retain examples as there are to forget; with d = 1e-5 for gradients of any size,
    which may well exceed the retain importance. Here all retain examples count, and d is ``DAMPING`` times the mean of
    the layer.

    Args:
        model: The adapted start model on its device; left in evaluation mode.
        rows: The examples to forget and to keep, ``forget`` and ``retain``; each at least one.
        pad_id: Token id of padding.

    Returns:
        r by layer, (outputs,), in at least float32.

    Raises:
        UserError: Gradients of a layer are not finite.
    """
    layers = adapted_layers(model)
    weights = {name: layer.base for name, layer in layers.items()}
    kept = {name: torch.zeros_like(weight, dtype=_exact(weight)) for name, weight in weights.items()}
    sums = {name: layer.base.new_zeros(len(layer.up), dtype=_exact(layer.base)) for name, layer in layers.items()}

    def add_squares(name: str, gradient: torch.Tensor) -> None:
        kept[name].addcmul_(gradient, gradient)

    def add_ratios(name: str, gradient: torch.Tensor) -> None:
        sums[name].add_(gradient.square().div_(kept[name]).sum(0 if layers[name].transposed else 1))

    _each_gradient(model, weights, rows["retain"], pad_id=pad_id, use=add_squares)
    for squares in kept.values():
        squares.div_(len(rows["retain"]))
        mean = squares.mean()
        # a layer that no retain example uses: the importance of the forget set alone
        squares.add_(torch.where(mean > 0, DAMPING * mean, torch.ones_like(mean)))
    _each_gradient(model, weights, rows["forget"], pad_id=pad_id, use=add_ratios)
    found = {name: (total / len(rows["forget"])).sqrt_() for name, total in sums.items()}
    for name, each in found.items():
        if not each.isfinite().all():
            raise UserError(
                f"model.lora.init=fila: gradients of {name} are not finite numbers in this precision; set "
                "model.precision=32-true, or model.lora.init=pissa, which needs no gradients"
            )
    return found


def _each_gradient(
    model: torch.nn.Module, weights: Mapping[str, torch.nn.Parameter], rows: Sequence[Encoded], *, pad_id: int,
    use: Callable[[str, torch.Tensor], None],
) -> None:  # fmt: skip
    """Pass the gradient of every row's log-likelihood to ``use``, weight by weight, so that one exists at a time."""
    model.eval()
    device = next(iter(weights.values())).device

    def pass_on(name: str, weight: torch.Tensor) -> None:
        use(name, weight.grad.to(_exact(weight)))  # type: ignore[union-attr]
        weight.grad = None

    with _only_gradients_of(model, weights.values()):
        hooks = [weight.register_post_accumulate_grad_hook(partial(pass_on, name)) for name, weight in weights.items()]
        try:
            for row in rows:
                answer_nll(model, to_device(collate([row], pad_id=pad_id), device)).sum().backward()  # type: ignore[no-untyped-call]
        finally:
            for hook in hooks:
                hook.remove()


@contextmanager
def _only_gradients_of(model: torch.nn.Module, weights: Any) -> Iterator[None]:
    """Require gradients of these weights alone within the context."""
    before = {weight: weight.requires_grad for weight in model.parameters()}
    model.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight, required in before.items():
            weight.requires_grad_(required)


def _exact(weight: torch.Tensor) -> torch.dtype:
    """Return the dtype to compute in: that of the weight, at least float32."""
    return torch.promote_types(weight.dtype, torch.float32)
