"""Attention for rows with shared prefixes, one new token each, in the form that transformers' models call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface

NAME = "meow_shared"  # name of the attention implementation in transformers
# Attention features that are not supported.
FOREIGN = (
    "softcap", "s_aux", "sinks", "sliding_window", "head_mask", "position_bias", "indices", "block_indices",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trunk:
    """The prefix that consecutive rows share in one layer: keys and values of ``nodes`` tokens, (heads, nodes, D) each.

    Attributes:
        start: The first row.
        end: One past the last row.
        keys: Keys of all nodes.
        values: Values of all nodes.
    """

    start: int
    end: int
    keys: torch.Tensor
    values: torch.Tensor


@dataclass(slots=True)
class PageLayout:
    """Where the keys and values of a batch's rows are stored; the same for every layer.

    A row's own tokens are stored on pages, its shared prefix in a trunk.

    Attributes:
        seen_BN: Additive mask: 0 if a row's path contains a node of its trunk, else the smallest finite number.
        row_P: The row of every page.
        number_P: The index of every page within its row, from 0.
        pages: Maximum number of pages per row.
        used_P1S: Additive mask: 0 on the tokens of a page, the smallest finite number on unused positions.
        reads: Number of attention computations that used this layout.
    """

    seen_BN: torch.Tensor  # noqa: N815
    row_P: torch.Tensor  # noqa: N815
    number_P: torch.Tensor  # noqa: N815
    pages: int
    used_P1S: torch.Tensor  # noqa: N815
    reads: int = 0


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    trunks: Sequence[Trunk],
    layout: PageLayout,
    scaling: float,
) -> torch.Tensor:
    """Compute softmax(scaling q [K_trunk, K_own]^T + mask) [V_trunk, V_own] for every row, (B, 1, heads, D).

    One softmax covers the scores of both parts; the rows of a trunk share one matrix product, which reads the trunk
    once.

    Args:
        query: (B, heads, 1, D).
        key: Pages of the rows' own tokens, (P, key heads, S, D); query heads are grouped over key heads.
        value: Likewise.
        trunks: The trunks in row order; a row may have none.
        layout: The assignment of pages and nodes to rows.
        scaling: Scale of the scores.

    """
    rows, heads, _, size = query.shape
    groups, page = key.shape[1], key.shape[2]
    width, row_P, number_P = layout.seen_BN.shape[1], layout.row_P, layout.number_P  # noqa: N806
    q_BHGD = (query * scaling).reshape(rows, groups, heads // groups, size)  # noqa: N806
    q_HBGD = q_BHGD.transpose(0, 1)  # noqa: N806
    scores = query.new_full((groups, rows, heads // groups, width + layout.pages * page), torch.finfo(query.dtype).min)
    own = torch.matmul(q_BHGD[row_P], key.transpose(-1, -2)) + layout.used_P1S[:, None]
    scores[..., width:].unflatten(-1, (layout.pages, page))[:, row_P, :, number_P] = own
    for trunk in trunks:
        span, nodes = slice(trunk.start, trunk.end), trunk.keys.shape[1]
        product = torch.matmul(q_HBGD[:, span].reshape(groups, -1, size), trunk.keys.transpose(-1, -2))
        seen = layout.seen_BN[span, None, :nodes]
        torch.add(product.view(groups, -1, heads // groups, nodes), seen, out=scores[:, span, :, :nodes])
    finer = torch.promote_types(query.dtype, torch.float32)
    chances = torch.softmax(scores, -1, dtype=finer).to(query.dtype)
    paged = chances[..., width:].unflatten(-1, (layout.pages, page))[:, row_P, :, number_P]
    output = torch.zeros_like(q_BHGD).index_add_(0, row_P, torch.matmul(paged, value))
    for trunk in trunks:
        span, nodes = slice(trunk.start, trunk.end), trunk.keys.shape[1]
        product = torch.matmul(chances[:, span, :, :nodes].reshape(groups, -1, nodes), trunk.values)
        output[span] += product.view(groups, -1, heads // groups, size).transpose(0, 1)
    return output.reshape(rows, 1, heads, size)


def _attention(
    _: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor,
    scaling: float | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Call :func:`attend` with transformers' signature; trunks and layout are attached to ``key``."""
    if any(rest.get(name) is not None for name in FOREIGN):
        raise ValueError("this model's attention is not a plain softmax of scaled products")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    trunks, layout = attached_context(key)
    layout.reads += 1
    return attend(query, key, value, trunks=trunks, layout=layout, scaling=scale), None


def attach_context(key: torch.Tensor, trunks: Sequence[Trunk], layout: PageLayout) -> torch.Tensor:
    """Attach trunks and layout to the keys, for the attention function that receives them.

    A model passes only the keys and values returned by its cache to its attention function, not the cache itself.
    """
    key.carried = trunks, layout  # type: ignore[attr-defined]
    return key


def attached_context(key: torch.Tensor) -> tuple[Sequence[Trunk], PageLayout]:
    """Return the trunks and layout attached by :func:`attach_context`.

    Raises:
        AttributeError: The model has replaced the keys.
    """
    return key.carried  # type: ignore[attr-defined, no-any-return]


@contextmanager
def attention_implementation(model: Any, name: str) -> Iterator[None]:
    """Use the named attention implementation within the context."""
    config = model.config.get_text_config()
    before = config._attn_implementation  # not exposed publicly by transformers
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


AttentionInterface.register(NAME, _attention)
