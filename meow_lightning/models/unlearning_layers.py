"""Unlearning layers: linear corrections after the feed-forward blocks of a frozen model, and their fusion."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from transformers.pytorch_utils import Conv1D

from meow_lightning.errors import UserError
from meow_lightning.models.heads import run_at
from meow_lightning.models.layers import decoder_layers
from meow_lightning.types import TokenBatch

FEED_FORWARD = ("mlp", "feed_forward", "ffn", "block_sparse_moe")
"""Names of the feed-forward block in the decoder layers of transformers."""
CORRECTIONS = "unlearning/corrections.safetensors"
"""File of a request's corrections in the folder of its model."""


class Correction(NamedTuple):
    """What one unlearning layer has learned from one request.

    Attributes:
        down: A, (D, R), the same for all requests.
        up: B, (R, D), trained.
        gram: G = Z^T Z, (R, R), where Z = Y A and Y are the outputs of the feed-forward block at all tokens of the
            forget set. These are second-order statistics of the forgotten texts.
    """

    down: torch.Tensor
    up: torch.Tensor
    gram: torch.Tensor


class UnlearningLayer(torch.nn.Module):
    """The correction y + y A B of a feed-forward block's output y.

    Args:
        down: A, (D, R), constant.
        up: B, (R, D), the trained weight; zero leaves y unchanged.

    Attributes:
        enabled: Whether the layer corrects; if not, the model is the one it was attached to.
        handle: Removes the layer from the forward pass of its block.
    """

    down: torch.Tensor
    handle: torch.utils.hooks.RemovableHandle

    def __init__(self, down: torch.Tensor, up: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("down", down)
        self.up = torch.nn.Parameter(up)
        self.enabled = True

    def forward(self, output_BTD: torch.Tensor) -> torch.Tensor:  # noqa: N803
        """Compute y + y A B."""
        return output_BTD + output_BTD @ self.down @ self.up

    def correct(self, _block: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        """Correct the block's output; its forward hook."""
        corrected: torch.Tensor = self(output) if self.enabled else output
        return corrected


def feed_forward_blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Find the feed-forward block of every decoder layer, bottom first.

    Raises:
        UserError: Not every decoder layer has exactly one.
    """
    layers = decoder_layers(model)
    blocks = [[block for name, block in layer.named_children() if name in FEED_FORWARD] for layer in layers]
    if not layers or any(len(found) != 1 for found in blocks):
        raise UserError(
            f"unlearning layers need one feed-forward block ({', '.join(FEED_FORWARD)}) in every decoder layer, which "
            f"{type(model).__name__} does not have; use another method, such as method=npo_gd"
        )
    return [found[0] for found in blocks]


def unlearning_layers(model: torch.nn.Module) -> list[UnlearningLayer]:
    """List the unlearning layers attached to a model, bottom first."""
    return [module for module in model.modules() if isinstance(module, UnlearningLayer)]


def attach_layers(model: torch.nn.Module, *, rank: int) -> None:
    """Attach an unlearning layer to every feed-forward block, in the dtype and on the device of the block.

    A has entries +1 / sqrt(D) and -1 / sqrt(D), drawn with the number of the block as seed: the same in every run, so
    that requests can be fused. B is zero, so the model's outputs are unchanged.

    Args:
        model: A causal language model in evaluation mode.
        rank: R, from 1; at most the width D of the model is used.

    Raises:
        UserError: A block's output is not that of one linear layer, so that a correction could not be folded into it.
    """
    for place, (block, projection) in enumerate(output_projections(model)):
        weight = _by_output(projection)
        width = len(weight)
        shape = (width, min(rank, width))
        signs = 2 * torch.randint(2, shape, generator=torch.Generator().manual_seed(place)) - 1
        down = (signs / math.sqrt(width)).to(weight)
        layer = UnlearningLayer(down, torch.zeros(shape[::-1], dtype=weight.dtype, device=weight.device))
        block.unlearning = layer
        layer.handle = block.register_forward_hook(layer.correct)


def detach_layers(model: torch.nn.Module) -> None:
    """Remove all unlearning layers, so that the model is the one they were attached to."""
    for block in feed_forward_blocks(model):
        layer: Any = block.unlearning
        layer.handle.remove()
        del block.unlearning


@contextmanager
def bypassed(model: torch.nn.Module) -> Iterator[None]:
    """Run the model without its unlearning layers and without dropout."""
    layers, training = unlearning_layers(model), model.training
    for layer in layers:
        layer.enabled = False
    model.eval()
    try:
        yield
    finally:
        model.train(training)
        for layer in layers:
            layer.enabled = True


def output_projections(model: torch.nn.Module) -> list[tuple[torch.nn.Module, torch.nn.Module]]:
    """Pair every feed-forward block with the linear layer whose output is its own, found by a trial on one token.

    Args:
        model: A causal language model in evaluation mode, without unlearning layers or with these bypassed.

    Raises:
        UserError: A block's output is computed from that of several linear layers, as in a mixture of experts.
    """
    blocks = feed_forward_blocks(model)
    linear = {
        block: [each for each in block.modules() if isinstance(each, (torch.nn.Linear, Conv1D))] for block in blocks
    }
    outputs: dict[torch.nn.Module, Any] = {}

    def record(module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        outputs[module] = output

    handles = [each.register_forward_hook(record) for block, found in linear.items() for each in (block, *found)]
    token = torch.zeros((1, 1), dtype=torch.long, device=next(model.parameters()).device)
    try:
        with torch.no_grad():
            model(input_ids=token, attention_mask=token + 1, position_ids=token, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    pairs: list[tuple[torch.nn.Module, torch.nn.Module]] = []
    for block, found in linear.items():
        whole = outputs.get(block)
        same = [each for each in found if torch.is_tensor(whole) and torch.equal(outputs.get(each, token), whole)]
        if not same:
            raise UserError(
                f"unlearning layers need feed-forward blocks that end with one linear layer, unlike those of "
                f"{type(model).__name__}; use another method, such as method=npo_gd"
            )
        pairs.append((block, same[-1]))
    return pairs


@torch.no_grad()
def gram_matrices(model: torch.nn.Module, batches: Iterable[TokenBatch]) -> list[torch.Tensor]:
    """Compute G = Z^T Z of every unlearning layer, (R, R) in float64 on the CPU, where Z = Y A.

    Y are the inputs of the layer at all tokens of the rows, prompts included: it corrects all of them.

    Args:
        model: A model with unlearning layers.
        batches: Rows of the forget set.
    """
    layers = unlearning_layers(model)
    grams = [torch.zeros((layer.up.shape[0],) * 2, dtype=torch.float64) for layer in layers]
    seen: dict[torch.nn.Module, torch.Tensor] = {}
    handles = [
        layer.register_forward_pre_hook(lambda module, given: seen.__setitem__(module, given[0])) for layer in layers
    ]
    training = model.training
    model.eval()
    try:
        for rows in batches:
            run_at(model, rows, torch.zeros(1, dtype=torch.long, device=rows.input_ids_BT.device))
            for layer, gram in zip(layers, grams, strict=True):
                z_NR = (seen[layer][rows.attention_mask_BT.bool()] @ layer.down).cpu().double()  # noqa: N806
                gram += z_NR.T @ z_NR
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return grams


@torch.no_grad()
def fold(model: torch.nn.Module, corrections: Sequence[Correction]) -> None:
    """Fold corrections into the last linear layer of each feed-forward block, in place: W + B^T A^T W, b + b A B.

    Computed in float64 and rounded once to each weight's dtype; corrections of zero change no bit. In bfloat16 changes
    below about 2^-9 of a weight are lost.

    Args:
        model: A causal language model in evaluation mode, without unlearning layers.
        corrections: One per block, bottom first.
    """
    for (_, projection), each in zip(output_projections(model), corrections, strict=True):
        bias: torch.Tensor | None = getattr(projection, "bias", None)
        for weight in [_by_output(projection), *([] if bias is None else [bias])]:
            precise = weight.double()
            down, up = each.down.to(precise), each.up.to(precise)
            weight.copy_(precise + up.T @ (down.T @ precise))


def fold_layers(model: torch.nn.Module, batches: Iterable[TokenBatch]) -> list[Correction]:
    """Compute the Gram matrices of a model's unlearning layers, then replace the layers by folded corrections.

    Args:
        model: A model with unlearning layers, which it no longer has afterwards.
        batches: Rows of the forget set, on the model's device.

    Returns:
        The layers with their Gram matrices, bottom first, on the CPU.
    """
    grams = gram_matrices(model, batches)
    corrections = [
        Correction(layer.down.detach().cpu(), layer.up.detach().cpu(), gram)
        for layer, gram in zip(unlearning_layers(model), grams, strict=True)
    ]
    detach_layers(model)
    training = model.training
    model.eval()
    fold(model, corrections)
    model.train(training)
    return corrections


def fuse(requests: Sequence[Sequence[Correction]], *, ridge: float) -> list[Correction]:
    """Fuse the corrections of several requests, which start from one model, layer by layer and without data.

    B = argmin_B sum_i |Z_i B - Z_i B_i|^2 + l |B|^2 = (sum_i G_i + l I)^-1 sum_i G_i B_i, with l = ridge times the mean
    diagonal element of sum_i G_i. Exact, since the layers are linear and share A; directions in which no forget set has
    variance are left as in the start model. Computed in float64.

    Args:
        requests: Corrections of each request, bottom layer first.
        ridge: Relative strength of the ridge, 0 or more; above 0, also directions without variance are determined.

    Raises:
        UserError: The requests have layers of different numbers, widths or ranks.
    """
    shapes = [[tuple(each.down.shape) for each in request] for request in requests]
    if any(other != shapes[0] for other in shapes):
        raise UserError(
            "the requests have unlearning layers of different shapes; run all with the same model and method.rank"
        )
    fused = []
    for layers in zip(*requests, strict=True):
        gram = torch.stack([each.gram.double() for each in layers]).sum(0)
        target = torch.stack([each.gram.double() @ each.up.double() for each in layers]).sum(0)
        damped = gram + ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        fused.append(Correction(layers[0].down, torch.linalg.solve(damped, target), gram))
    return fused


def save_corrections(corrections: Sequence[Correction], folder: Path) -> None:
    """Write the corrections of a request into the folder of its model."""
    path = folder / CORRECTIONS
    path.parent.mkdir(exist_ok=True)
    tensors: dict[str, torch.Tensor] = {}
    for place, each in enumerate(corrections):
        tensors |= {f"{place}.{name}": tensor.contiguous() for name, tensor in each._asdict().items()}
    save_file(tensors, path)


def load_corrections(folder: Path) -> list[Correction]:
    """Read the corrections of a request from the folder of its model.

    Raises:
        UserError: The folder has none.
    """
    path = folder / CORRECTIONS
    if not path.is_file():
        raise UserError(
            f"{folder} has no {CORRECTIONS}; give the folder of a model that method=eul has unlearned, which a run "
            "prints as `unlearned model`"
        )
    tensors = load_file(path)
    count = len(tensors) // len(Correction._fields)
    return [Correction(*(tensors[f"{place}.{name}"] for name in Correction._fields)) for place in range(count)]


def _by_output(projection: Any) -> torch.Tensor:
    """Return the weight of a linear layer as (outputs, inputs), sharing its memory."""
    weight: torch.Tensor = projection.weight.detach()
    return weight.T if isinstance(projection, Conv1D) else weight
