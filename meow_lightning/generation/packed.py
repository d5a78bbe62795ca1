"""Packed scoring: all tokens of a batch in one row without padding; a prompt is read once for all its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.nn import functional
from transformers import AttentionInterface

from meow_lightning.generation.capabilities import ProbeResult, dtype_of, same_continuation
from meow_lightning.generation.prefix_attention import FOREIGN, attention_implementation
from meow_lightning.types import Encoded

NAME = "meow_packed"  # name of the attention implementation in transformers
GROUP_SIZE = 16  # maximum number of rows padded to a common length for attention
T = TypeVar("T")
Group = Sequence[Encoded]  # rows with the same prompt


@dataclass(frozen=True, slots=True)
class AttentionGroup:
    """Rows of similar length whose attention is computed together; indices refer to the packed batch.

    Attributes:
        query_BT: Query tokens, padded with a row's first one.
        key_BS: Key tokens, likewise.
        seen_B1TS: Attention mask; ``None`` for causal attention.
        real: Which of the B * T queries are not padding.
        places: Indices of these.
    """

    query_BT: torch.Tensor  # noqa: N815
    key_BS: torch.Tensor  # noqa: N815
    seen_B1TS: torch.Tensor | None  # noqa: N815
    real: torch.Tensor
    places: torch.Tensor


@dataclass(slots=True)
class PackedLayout:
    """Attention layout of a packed batch; the same for every layer.

    Attributes:
        groups: The groups; every token is a query in exactly one of them.
        reads: Number of attention computations that used this layout.
    """

    groups: Sequence[AttentionGroup]
    reads: int = 0


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch packed into one row.

    Attributes:
        ids_1T: All input tokens, without padding.
        positions_1T: Each token's position in its own row.
        before_N: Index of the token before each scored one, row by row.
        layout: The attention layout.
    """

    ids_1T: torch.Tensor  # noqa: N815
    positions_1T: torch.Tensor  # noqa: N815
    before_N: torch.Tensor  # noqa: N815
    layout: PackedLayout


def pack(groups: Sequence[Group], *, device: torch.device, masked_id: int | None = None) -> Packed:
    """Pack the rows of all groups; the last token of a row is scored but not an input.

    Args:
        groups: Groups of rows with a shared prompt.
        device: Device of the model.
        masked_id: Token that no other token attends to, wherever it occurs; positions still count it. ``None``: none.

    Raises:
        ValueError: The first token of a row is scored, although no token precedes it.
    """
    if not all(group[0].prompt for group in groups):
        raise ValueError("the first token of a row cannot be scored: nothing precedes it")
    ids: list[int] = []
    positions: list[int] = []
    before: list[int] = []
    stems: list[range] = []  # full rows, and shared prompts
    branches: list[tuple[range, range]] = []  # prompt and answer
    for group in groups:
        prompt, first, lone = group[0].prompt, len(ids), len(group) == 1
        ids += group[0].ids[:-1] if lone else group[0].ids[:prompt]
        positions += range(len(ids) - first)
        stems.append(range(first, len(ids)))
        last = first + prompt - 1
        if lone:
            before += range(last, len(ids))
            continue
        for row in group:
            start = len(ids)
            ids += row.ids[prompt:-1]
            positions += range(prompt, len(row.ids) - 1)
            before += (last, *range(start, len(ids)))
            branches.append((stems[-1], range(start, len(ids))))
    visible_T = None if masked_id is None else torch.tensor(ids) != masked_id  # noqa: N806
    attention_groups = [_causal(each, visible_T, device) for each in _by_length(stems, key=len)]
    attention_groups += [
        _branches(each, visible_T, device)
        for each in _by_length([pair for pair in branches if pair[1]], key=lambda x: len(x[1]))
    ]
    return Packed(
        torch.tensor([ids], device=device), torch.tensor([positions], device=device),
        torch.tensor(before, device=device), PackedLayout(attention_groups),
    )  # fmt: skip


def _by_length(rows: Sequence[T], *, key: Callable[[T], int]) -> Iterator[Sequence[T]]:
    ordered = sorted(rows, key=key)
    return (ordered[start : start + GROUP_SIZE] for start in range(0, len(ordered), GROUP_SIZE))


def _causal(rows: Sequence[range], visible_T: torch.Tensor | None, device: torch.device) -> AttentionGroup:  # noqa: N803
    places_BT, real_BT = _places(rows)  # noqa: N806
    if visible_T is None or bool(visible_T[places_BT].all()):
        return _group(places_BT, real_BT, places_BT, None, device)
    size = places_BT.shape[1]
    seen_BTS = _hidden(torch.ones(len(rows), size, size, dtype=torch.bool).tril(), visible_T[places_BT])  # noqa: N806
    return _group(places_BT, real_BT, places_BT, seen_BTS[:, None], device)


def _hidden(seen_BTS: torch.Tensor, visible_BS: torch.Tensor) -> torch.Tensor:  # noqa: N803
    """Hide keys from all queries; a query that would see none keeps its keys, since nothing reads its output."""
    seen = seen_BTS & visible_BS[:, None]
    return torch.where(seen.any(-1, keepdim=True), seen, seen_BTS)


def _branches(
    rows: Sequence[tuple[range, range]], visible_T: torch.Tensor | None, device: torch.device  # noqa: N803
) -> AttentionGroup:  # fmt: skip
    (stem_BT, of_stem), (own_BT, real_BT) = (_places(part) for part in zip(*rows, strict=True))  # noqa: N806
    size = own_BT.shape[1]
    own = torch.ones(size, size, dtype=torch.bool).tril().expand(len(rows), size, size)
    seen = torch.cat([of_stem[:, None].expand(-1, size, -1), own], dim=-1)
    keys_BS = torch.cat([stem_BT, own_BT], dim=-1)  # noqa: N806
    if visible_T is not None:
        seen = _hidden(seen, visible_T[keys_BS])
    return _group(own_BT, real_BT, keys_BS, seen[:, None], device)


def _group(
    query_BT: torch.Tensor,  # noqa: N803
    real_BT: torch.Tensor,  # noqa: N803
    key_BS: torch.Tensor,  # noqa: N803
    seen: torch.Tensor | None,
    device: torch.device,
) -> AttentionGroup:
    real = real_BT.flatten().nonzero().squeeze(-1)
    return AttentionGroup(
        query_BT.to(device), key_BS.to(device), None if seen is None else seen.to(device), real.to(device),
        query_BT.flatten()[real].to(device),
    )  # fmt: skip


def _places(rows: Sequence[range]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (indices of the rows' tokens, mask of non-padding), both (rows, longest)."""
    longest = max(map(len, rows))
    places = torch.tensor([[*row, *[row[0]] * (longest - len(row))] for row in rows])
    return places, torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]


def width(model: Any) -> int:
    """Return the hidden size of a model that :func:`supports_packing`."""
    return int(model.config.get_text_config().hidden_size)


def is_worthwhile(group: Group, *, hidden: int) -> bool:
    """Whether reading a prompt once for all its answers pays off, that is, h * saved positions > added pairs.

    A position saves about 12 h^2 products per layer (h: hidden size). A pair of tokens in attention costs 2 h of
    them, at worst at a sixth of the speed. Masked attention computes all pairs, causal attention half of them.

    Args:
        group: Rows with the same prompt.
        hidden: Hidden size of the model.
    """
    prompt = group[0].prompt
    saved = (len(group) - 1) * prompt
    shared = prompt**2 // 2 + sum((row.scored - 1) * (len(row.ids) - 1) for row in group)
    separate = sum((len(row.ids) - 1) ** 2 // 2 for row in group)
    return hidden * saved > shared - separate


def hidden_states(model: Any, batch: Packed) -> torch.Tensor:
    """Compute the inputs of the model's head at the positions before the scored tokens, (N, H).

    Args:
        model: A model that :func:`supports_packing`.
        batch: The packed batch.

    Raises:
        ValueError: Some layer does not use this module's attention.
    """
    reads = batch.layout.reads
    with attention_implementation(model, NAME):
        states = model.base_model(
            input_ids=batch.ids_1T, position_ids=batch.positions_1T, use_cache=False, layout=batch.layout,
            attention_mask=torch.zeros(1, 1, 1, 1, dtype=model.dtype, device=model.device),  # unused
        ).last_hidden_state  # fmt: skip
    if batch.layout.reads - reads != model.config.get_text_config().num_hidden_layers:
        raise ValueError("the model uses its own attention, which mistakes a packed batch for one text")
    return states[0, batch.before_N]


def supports_packing(model: Any, row: Sequence[int]) -> bool:
    """Test on a few tokens whether packing leaves the model's logits unchanged.

    Args:
        model: Any language model.
        row: Tokens for the trial, at least one.
    """
    return dtype_of(model) is not None and same_continuation(model, row, lambda probe: _trial(model, probe))


@torch.inference_mode()
def _trial(model: Any, probe: list[int]) -> ProbeResult:
    size = len(probe)
    other = [*probe[:3], *[token - 1 if token > 1 else token + 1 for token in probe[3:]]]
    rows = [Encoded((*other[:-2], 0), 2), Encoded((*other, 0), 3), Encoded((*probe, 0), 3), Encoded((*probe, 0), 4)]
    batch = pack([rows[:1], rows[1:3], rows[3:]], device=model.device)
    logits = model.get_output_embeddings()(hidden_states(model, batch))
    below, alone = range(2, size), range(3, size)
    return [*below, *alone], logits[-len(below) - len(alone) :]


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, layout: PackedLayout, scaling: float
) -> torch.Tensor:
    """Compute softmax(scaling q k^T + mask) v for every token over its own row, (1, T, heads, D).

    Args:
        query: (1, heads, T, D).
        key: (1, key heads, T, D); query heads are grouped over key heads.
        value: Likewise.
        layout: The assignment of tokens to rows.
        scaling: Scale of the scores.
    """
    if (times := query.shape[1] // key.shape[1]) > 1:
        key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    q_THD, k_THD, v_THD = (states[0].transpose(0, 1) for states in (query, key, value))  # noqa: N806
    output_THD = torch.empty_like(q_THD, memory_format=torch.contiguous_format)  # noqa: N806
    for group in layout.groups:
        output = functional.scaled_dot_product_attention(
            q_THD[group.query_BT].transpose(1, 2), k_THD[group.key_BS].transpose(1, 2),
            v_THD[group.key_BS].transpose(1, 2),
            attn_mask=group.seen_B1TS, is_causal=group.seen_B1TS is None, scale=scaling,
        )  # fmt: skip
        output_THD[group.places] = output.transpose(1, 2).flatten(0, 1)[group.real]
    return output_THD[None]


def _attention(
    _: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor,
    scaling: float | None = None,
    layout: PackedLayout | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Call :func:`attend` with transformers' signature."""
    if layout is None or any(rest.get(name) is not None for name in FOREIGN):
        raise ValueError(
            "this model's attention is not a plain softmax of scaled products, or does not receive layouts"
        )
    layout.reads += 1
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attend(query, key, value, layout=layout, scaling=scale), None


AttentionInterface.register(NAME, _attention)
