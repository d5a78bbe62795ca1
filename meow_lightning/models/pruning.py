"""Structured pruning: coupled units of a causal model, their importance, and the smaller model without some of them.

A unit is removed as a whole: a neuron of the feed-forward part is a row of the matrices into it and a column of the
matrix out of it; a head, with grouped keys all heads that share a key, is some rows of the query, key and value
matrices and the columns of the output matrix that read them ("LLM-Pruner", Ma, Fang and Wang 2023, arXiv 2305.11627,
block-wise). The residual stream and the vocabulary stay.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from meow_lightning.errors import UserError
from meow_lightning.models.layers import decoder_layers
from meow_lightning.models.logprobs import answer_nll

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from meow_lightning.types import TokenBatch

Part = Literal["mlp", "attention"]
Importance = Literal["first_order", "second_order", "random"]

# Modules into a part, each with the kinds of blocks that its outputs join, and the module out of it, by architecture.
Layout = tuple[Mapping[str, str], str]
FEED_FORWARD: tuple[Layout, ...] = (
    ({"mlp.gate_proj": "u", "mlp.up_proj": "u"}, "mlp.down_proj"),  # Llama, Mistral, Qwen, Gemma
    ({"mlp.gate_up_proj": "uu"}, "mlp.down_proj"),  # Phi-3
    ({"mlp.fc1": "u"}, "mlp.fc2"),  # Phi
    ({"mlp.c_fc": "u"}, "mlp.c_proj"),  # GPT-2
    ({"mlp.dense_h_to_4h": "u"}, "mlp.dense_4h_to_h"),  # GPT-NeoX
)
ATTENTION: tuple[Layout, ...] = (
    ({"self_attn.q_proj": "q", "self_attn.k_proj": "k", "self_attn.v_proj": "k"}, "self_attn.o_proj"),
    ({"self_attn.qkv_proj": "qkk"}, "self_attn.o_proj"),  # Phi-3
    ({"self_attn.q_proj": "q", "self_attn.k_proj": "k", "self_attn.v_proj": "k"}, "self_attn.dense"),  # Phi
)
WIDTHS = ("intermediate_size", "n_inner")  # names of the feed-forward width in configs


@dataclass(frozen=True, slots=True)
class Cut:
    """A matrix that units run through.

    Attributes:
        module: Name of its module within the layer.
        inputs: Whether units lie along the module's inputs; else along its outputs.
        blocks: Consecutive entries per unit, for every matrix that the module joins along this dimension.
    """

    module: str
    inputs: bool
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Units:
    """The units of one part of every layer.

    Attributes:
        count: Units per layer, the same in all layers.
        cuts: The matrices that they run through.
        config: Options of the model's config that count them, and what each counts per unit.
        fixed: Options of the config that stay, made explicit since their default follows from the others.
    """

    count: int
    cuts: tuple[Cut, ...]
    config: Mapping[str, int]
    fixed: Mapping[str, int]


def find_units(model: PreTrainedModel) -> dict[Part, Units]:
    """Find what can be pruned in a model, by part; a part without an entry has units that its config cannot count.

    Raises:
        UserError: The architecture is unknown, or its layers differ in width.
    """
    config = model.config.get_text_config()
    found: dict[Part, Units] = {"mlp": _feed_forward(model, config)}
    layout = _layout(model, ATTENTION)
    if layout is not None:
        groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shared = config.num_attention_heads // groups
        sizes = {"q": shared * width, "k": width}
        options = {"num_attention_heads": shared, "num_key_value_heads": 1}
        found["attention"] = Units(groups, _cuts(layout, sizes), options, {"head_dim": width})
    return found


def positions(kept_K: torch.Tensor, *, count: int, blocks: Sequence[int]) -> torch.Tensor:  # noqa: N803
    """List the entries of some units along a dimension that joins matrices one after another.

    Args:
        kept_K: Numbers of the units.
        count: Units of each matrix.
        blocks: Consecutive entries per unit, for every matrix.
    """
    import torch

    found, start = [], 0
    for size in blocks:
        found.append((start + kept_K[:, None] * size + torch.arange(size)).flatten())
        start += count * size
    return torch.cat(found)


def best_units(scores_U: torch.Tensor, count: int) -> torch.Tensor:  # noqa: N803
    """Return the ``count`` units with the highest scores in their order; of equal ones the first."""
    return scores_U.argsort(descending=True, stable=True)[:count].sort().values


def importances(
    model: PreTrainedModel, rows: Iterable[TokenBatch], units: Mapping[Part, Units], *, kind: Importance, seed: int
) -> dict[Part, torch.Tensor]:
    """Score every unit by the change of the loss that its removal is expected to cause, (layers, units) by part.

        first_order: I(w) = |g w|        second_order: I(w) = h w^2 / 2

    with g and h the means of dL_j/dw and (dL_j/dw)^2 (the diagonal of the Fisher information, in the place of the
    Hessian's) over the rows j, and L_j the mean loss per scored token. A unit's score is the sum over all weights and
    biases that go with it. ``random`` draws the scores.

    Args:
        model: The model, in evaluation mode.
        rows: Batches of one row each; not read by ``random``.
        units: The units.
        kind: Kind of importance.
        seed: Seed of random scores.
    """
    import torch

    layers = decoder_layers(model)
    if kind == "random":
        draw = torch.Generator().manual_seed(seed)
        return {
            part: torch.rand(len(layers), each.count, generator=draw, dtype=torch.float64)
            for part, each in units.items()
        }
    weights = [
        weight for layer in layers for each in units.values() for cut in each.cuts for weight, _ in _entries(layer, cut)
    ]
    values = dict(zip(map(id, weights), _saliency(model, rows, weights, kind=kind), strict=True))

    def score(layer: torch.nn.Module, each: Units) -> torch.Tensor:
        return sum(
            (
                _by_unit(values[id(weight)], dim, each.count, cut.blocks)
                for cut in each.cuts for weight, dim in _entries(layer, cut)
            ),
            start=torch.zeros(each.count, dtype=torch.float64),
        )  # fmt: skip

    return {part: torch.stack([score(layer, each) for layer in layers]) for part, each in units.items()}


def without_units(
    model: PreTrainedModel, units: Mapping[Part, Units], kept: Mapping[Part, Sequence[torch.Tensor]]
) -> PreTrainedModel:
    """Build the model without some units, with a config of its own from which its folder loads.

    Args:
        model: The model, left as it is.
        units: Its units, by part.
        kept: Numbers of the units to keep in every layer, the same amount in each, by part.

    Raises:
        UserError: The model has weights that its config does not describe.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    from meow_lightning.models.float64 import float64_forward

    config = resized(model.config, units, {part: len(each[0]) for part, each in kept.items()})
    with torch.random.fork_rng(devices=[]), no_init_weights():
        smaller: Any = AutoModelForCausalLM.from_config(
            config, dtype=model.dtype, attn_implementation=model.config._attn_implementation
        )
    state = model.state_dict()
    names = {module: name for name, module in model.named_modules()}
    for part, each in units.items():
        for layer, kept_K in zip(decoder_layers(model), kept.get(part, ()), strict=False):  # noqa: N806
            for cut in each.cuts:
                module = layer.get_submodule(cut.module)
                own = {id(weight): f"{names[module]}.{name}" for name, weight in module.named_parameters()}
                for weight, dim in _entries(layer, cut):
                    places = positions(kept_K, count=each.count, blocks=cut.blocks)
                    state[own[id(weight)]] = weight.detach().index_select(dim, places)
    smaller.tie_weights()  # part of what initialises weights, which is left out
    try:
        smaller.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"this {model.config.model_type} model cannot be pruned: its config does not describe all of its weights "
            f"({reason}); leave pruning out"
        ) from error
    if model.dtype == torch.float64:
        float64_forward(smaller)
    smaller.generation_config = copy.deepcopy(model.generation_config)
    return smaller.train(model.training)  # type: ignore[no-any-return]


def resized(config: Any, units: Mapping[Part, Units], counts: Mapping[Part, int]) -> Any:
    """Return a config with other numbers of units per layer.

    Args:
        config: The config of the model.
        units: Its units, by part.
        counts: The new numbers, by part.

    Raises:
        UserError: transformers rejects the config.
    """
    changed = copy.deepcopy(config)
    text = changed.get_text_config()
    for part, count in counts.items():
        for name, value in units[part].fixed.items():
            setattr(text, name, value)
        for name, each in units[part].config.items():
            setattr(text, name, count * each)
    try:
        changed.validate()
    except Exception as error:
        raise UserError(" ".join(str(error).split())) from error
    return changed


def nearest_count(config: Any, units: Mapping[Part, Units], part: Part, least: int) -> int:
    """Find the smallest number of units, at least ``least``, that a model of this kind can have.

    Llama's config, for one, accepts only numbers of heads that divide the width of the model.

    Args:
        config: The config of the model.
        units: Its units, by part.
        part: The part.
        least: The smallest number that is wanted.
    """
    for count in range(least, units[part].count):
        try:
            resized(config, units, {part: count})
        except UserError:
            continue
        return count
    return units[part].count


def _layout(model: PreTrainedModel, layouts: Iterable[Layout]) -> Layout | None:
    """Find the layout whose modules every layer has."""
    layers = [dict(layer.named_modules()) for layer in decoder_layers(model)]
    fitting = (each for each in layouts if all({*each[0], each[1]} <= layer.keys() for layer in layers))
    return next(fitting, None) if layers else None


def _cuts(layout: Layout, sizes: Mapping[str, int]) -> tuple[Cut, ...]:
    into, out = layout
    first = next(iter(into.values()))[0]
    return (
        *(Cut(name, False, tuple(sizes[block] for block in blocks)) for name, blocks in into.items()),
        Cut(out, True, (sizes[first],)),
    )


def _feed_forward(model: PreTrainedModel, config: Any) -> Units:
    layout = _layout(model, FEED_FORWARD)
    name = next((each for each in WIDTHS if hasattr(config, each)), None)
    if layout is None or name is None:
        raise UserError(
            f"{type(model).__name__} cannot be pruned: its layers are not those of Llama, Mistral, Qwen, Gemma, Phi, "
            "Phi-3, GPT-2 or GPT-NeoX; leave pruning out"
        )
    cuts = _cuts(layout, {"u": 1})
    widths = set()
    for layer in decoder_layers(model):
        weight, dim = next(iter(_entries(layer, cuts[-1])))
        widths.add(weight.shape[dim])
    if len(widths) > 1:
        listed = ", ".join(map(str, sorted(widths)))
        raise UserError(f"{type(model).__name__} cannot be pruned: its layers differ in width ({listed})")
    return Units(widths.pop(), cuts, {name: 1}, {})


def _entries(layer: torch.nn.Module, cut: Cut) -> list[tuple[torch.nn.Parameter, int]]:
    """List the weights of a layer that a cut shortens, with the dimension along which units lie."""
    from transformers.pytorch_utils import Conv1D

    module: Any = layer.get_submodule(cut.module)
    transposed = isinstance(module, Conv1D)  # GPT-2's layers store (inputs, outputs)
    found = [(module.weight, int(cut.inputs != transposed))]
    if not cut.inputs and module.bias is not None:
        found.append((module.bias, 0))
    return found


def _saliency(
    model: PreTrainedModel, rows: Iterable[TokenBatch], weights: Sequence[torch.nn.Parameter], *, kind: Importance
) -> list[torch.Tensor]:
    """Compute I(w) of every entry of some weights, in at least float32."""
    import torch

    totals = [torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32)) for weight in weights]
    trained = {weight: weight.requires_grad for weight in model.parameters()}
    count = 0
    try:
        for weight in trained:
            weight.requires_grad_(False)
        for weight in weights:
            weight.requires_grad_(True)
        for row in rows:
            count += 1
            loss = answer_nll(model, row).sum() / row.loss_mask_BT.sum()
            for total, gradient in zip(totals, torch.autograd.grad(loss, weights), strict=True):
                total += gradient if kind == "first_order" else gradient.to(total.dtype) ** 2
    finally:
        for weight, before in trained.items():
            weight.requires_grad_(before)
    if not count:
        raise ValueError("importance needs at least one row")
    with torch.no_grad():
        for total, weight in zip(totals, weights, strict=True):  # in place: each is as large as the weight
            total.mul_(weight / count).abs_() if kind == "first_order" else total.mul_(weight**2 / (2 * count))
    return totals


def _by_unit(values: torch.Tensor, dim: int, count: int, blocks: Sequence[int]) -> torch.Tensor:
    """Sum the entries of each unit."""
    import torch

    along = values.movedim(dim, 0).reshape(values.shape[dim], -1).sum(-1, dtype=torch.float64)
    parts = along.split([count * size for size in blocks])
    return torch.stack([each.view(count, -1).sum(-1) for each in parts]).sum(0)
