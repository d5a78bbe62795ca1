"""Rows to be scored, all tokens of a batch in one row: nothing is padded, and a prompt is read once for its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.nn import functional
from transformers import AttentionInterface

from meow_lightning.generation.capabilities import Found, dtype_of, same_continuation
from meow_lightning.generation.prefix_attention import FOREIGN, switched
from meow_lightning.types import Encoded

NAME = "meow_packed"  # among transformers' kinds of attention
LOT = 16  # rows that attention pads to one length
T = TypeVar("T")
Group = Sequence[Encoded]  # rows with one and the same prompt


@dataclass(frozen=True, slots=True)
class Lot:
    """Rows of like length that attention is computed for together; places are those of the packed batch.

    Attributes:
        query_BT: Which tokens look, a row's first one in the place of padding.
        key_BS: Which tokens they may look at; likewise.
        seen_B1TS: True where one is seen; ``None`` where all of a row look at themselves and those before.
        real: Which of the B * T that look are not padding.
        places: Where these are.
    """

    query_BT: torch.Tensor  # noqa: N815
    key_BS: torch.Tensor  # noqa: N815
    seen_B1TS: torch.Tensor | None  # noqa: N815
    real: torch.Tensor
    places: torch.Tensor


@dataclass(slots=True)
class Layout:
    """What attention has to know of a packed batch; the same in every layer.

    Attributes:
        lots: Every token looks in one of them.
        reads: How often an attention has been computed by it.
    """

    lots: Sequence[Lot]
    reads: int = 0


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch as one row.

    Attributes:
        ids_1T: All tokens that are read, none of them padding.
        positions_1T: How many tokens stand before each in its own row.
        before_N: Where the token before each scored one lies, row by row.
        layout: For the attention.
    """

    ids_1T: torch.Tensor  # noqa: N815
    positions_1T: torch.Tensor  # noqa: N815
    before_N: torch.Tensor  # noqa: N815
    layout: Layout


def pack(groups: Sequence[Group], *, device: torch.device) -> Packed:
    """The rows of all groups, packed; the last token of a row is scored and never read.

    Args:
        groups: Rows with one prompt each, which those of a group share.
        device: Where the model is.

    Raises:
        ValueError: The first token of a row is scored, and nothing predicts it.
    """
    if not all(group[0].prompt for group in groups):
        raise ValueError("the first token of a row cannot be scored: nothing comes before it")
    ids: list[int] = []
    positions: list[int] = []
    before: list[int] = []
    stems: list[range] = []  # whole rows, and prompts of several
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
    lots = [_causal(each, device) for each in _alike(stems, key=len)]
    lots += [_below(each, device) for each in _alike([pair for pair in branches if pair[1]], key=lambda x: len(x[1]))]
    return Packed(
        torch.tensor([ids], device=device), torch.tensor([positions], device=device),
        torch.tensor(before, device=device), Layout(lots),
    )  # fmt: skip


def _alike(rows: Sequence[T], *, key: Callable[[T], int]) -> Iterator[Sequence[T]]:
    ordered = sorted(rows, key=key)
    return (ordered[start : start + LOT] for start in range(0, len(ordered), LOT))


def _causal(rows: Sequence[range], device: torch.device) -> Lot:
    places_BT, there_BT = _places(rows)  # noqa: N806
    return _lot(places_BT, there_BT, places_BT, None, device)


def _below(rows: Sequence[tuple[range, range]], device: torch.device) -> Lot:
    (stem_BT, of_stem), (own_BT, there_BT) = (_places(part) for part in zip(*rows, strict=True))  # noqa: N806
    size = own_BT.shape[1]
    own = torch.ones(size, size, dtype=torch.bool).tril().expand(len(rows), size, size)
    seen = torch.cat([of_stem[:, None].expand(-1, size, -1), own], dim=-1)
    return _lot(own_BT, there_BT, torch.cat([stem_BT, own_BT], dim=-1), seen[:, None], device)


def _lot(
    query_BT: torch.Tensor,  # noqa: N803
    there_BT: torch.Tensor,  # noqa: N803
    key_BS: torch.Tensor,  # noqa: N803
    seen: torch.Tensor | None,
    device: torch.device,
) -> Lot:
    real = there_BT.flatten().nonzero().squeeze(-1)
    return Lot(
        query_BT.to(device), key_BS.to(device), None if seen is None else seen.to(device), real.to(device),
        query_BT.flatten()[real].to(device),
    )  # fmt: skip


def _places(rows: Sequence[range]) -> tuple[torch.Tensor, torch.Tensor]:
    """(places of the tokens of some rows, which of them are no padding), both (rows, longest)."""
    longest = max(map(len, rows))
    places = torch.tensor([[*row, *[row[0]] * (longest - len(row))] for row in rows])
    return places, torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]


def width(model: Any) -> int:
    """Numbers that stand for a token between the layers of a model that :func:`supports_packing`."""
    return int(model.config.get_text_config().hidden_size)


def is_worthwhile(group: Group, *, hidden: int) -> bool:
    """Whether a prompt is to be read once for all of its answers: h positions saved > pairs added.

    A position spares about 12 h^2 products in every layer (h: width of the model). A pair of tokens in an attention
    costs 2 h of them, at a sixth of the speed at worst. Attention under a mask computes all pairs, a causal one half.

    Args:
        group: Rows with one prompt.
        hidden: Width of the model.
    """
    prompt = group[0].prompt
    saved = (len(group) - 1) * prompt
    shared = prompt**2 // 2 + sum((row.scored - 1) * (len(row.ids) - 1) for row in group)
    apart = sum((len(row.ids) - 1) ** 2 // 2 for row in group)
    return hidden * saved > shared - apart


def hidden_states(model: Any, batch: Packed) -> torch.Tensor:
    """What the model's head is given at the places before the scored tokens, (N, H).

    Args:
        model: One that :func:`supports_packing`.
        batch: What it reads.

    Raises:
        ValueError: The attention of some layer is not computed as this module does.
    """
    reads = batch.layout.reads
    with switched(model, NAME):
        states = model.base_model(
            input_ids=batch.ids_1T, position_ids=batch.positions_1T, use_cache=False, layout=batch.layout,
            attention_mask=torch.zeros(1, 1, 1, 1, dtype=model.dtype, device=model.device),  # goes unread
        ).last_hidden_state  # fmt: skip
    if batch.layout.reads - reads != model.config.get_text_config().num_hidden_layers:
        raise ValueError("the model has an attention of its own, which takes a packed batch for one text")
    return states[0, batch.before_N]


def supports_packing(model: Any, row: Sequence[int]) -> bool:
    """Whether the model finds packed rows as likely as rows by themselves, on a few tokens.

    Args:
        model: Any language model.
        row: Tokens to try with, at least one.
    """
    return dtype_of(model) is not None and same_continuation(model, row, lambda probe: _trial(model, probe))


@torch.inference_mode()
def _trial(model: Any, probe: list[int]) -> Found:
    size = len(probe)
    other = [*probe[:3], *[token - 1 if token > 1 else token + 1 for token in probe[3:]]]
    rows = [Encoded((*other[:-2], 0), 2), Encoded((*other, 0), 3), Encoded((*probe, 0), 3), Encoded((*probe, 0), 4)]
    batch = pack([rows[:1], rows[1:3], rows[3:]], device=model.device)
    logits = model.get_output_embeddings()(hidden_states(model, batch))
    below, alone = range(2, size), range(3, size)
    return [*below, *alone], logits[-len(below) - len(alone) :]


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, layout: Layout, scaling: float
) -> torch.Tensor:
    """softmax(scaling q k^T + mask) v of every token over what its own row has before it, (1, T, heads, D).

    Args:
        query: (1, heads, T, D).
        key: (1, key heads, T, D); every key head serves as many query heads.
        value: Likewise.
        layout: Which token belongs to which row.
        scaling: Factor of the scores.
    """
    if (times := query.shape[1] // key.shape[1]) > 1:
        key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    q_THD, k_THD, v_THD = (states[0].transpose(0, 1) for states in (query, key, value))  # noqa: N806
    said_THD = torch.empty_like(q_THD, memory_format=torch.contiguous_format)  # noqa: N806
    for lot in layout.lots:
        said = functional.scaled_dot_product_attention(
            q_THD[lot.query_BT].transpose(1, 2), k_THD[lot.key_BS].transpose(1, 2), v_THD[lot.key_BS].transpose(1, 2),
            attn_mask=lot.seen_B1TS, is_causal=lot.seen_B1TS is None, scale=scaling,
        )  # fmt: skip
        said_THD[lot.places] = said.transpose(1, 2).flatten(0, 1)[lot.real]
    return said_THD[None]


def _attention(
    _: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor,
    scaling: float | None = None,
    layout: Layout | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """What :func:`attend` gives, in the form that transformers expects."""
    if layout is None or any(rest.get(name) is not None for name in FOREIGN):
        raise ValueError("this model's attention is more than a softmax of scaled products, or is not told of layouts")
    layout.reads += 1
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attend(query, key, value, layout=layout, scaling=scale), None


AttentionInterface.register(NAME, _attention)
