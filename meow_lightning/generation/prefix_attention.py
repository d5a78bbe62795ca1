"""Attention of rows that read what they share from one place: one token each, as transformers' models call it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface

NAME = "meow_shared"  # among transformers' kinds of attention
# What changes attention, if a model gives it.
FOREIGN = (
    "softcap", "s_aux", "sinks", "sliding_window", "head_mask", "position_bias", "indices", "block_indices",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trunk:
    """What neighbouring rows share in one layer: keys and values of ``nodes`` tokens, (heads, nodes, D) each.

    Attributes:
        start: The first of these rows.
        end: One past the last of them.
        keys: Of all nodes.
        values: Of all nodes.
    """

    start: int
    end: int
    keys: torch.Tensor
    values: torch.Tensor


@dataclass(slots=True)
class Layout:
    """Where the rows of a batch find their keys and values; the same in every layer.

    A row's own tokens lie on pages; what it shares with its neighbours lies in a trunk.

    Attributes:
        seen_BN: Added to the scores: 0 where a row sees a node of its trunk, the least number elsewhere.
        row_P: The row of every page.
        number_P: Which of its row's pages it is, from 0.
        pages: Most pages of a row.
        used_P1S: Added to the scores: 0 on the tokens of a page, the least number on its empty places.
        reads: How often an attention has been computed by it.
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
    layout: Layout,
    scaling: float,
) -> torch.Tensor:
    """softmax(scaling q [K_trunk, K_own]^T + mask) [V_trunk, V_own] of every row, (B, 1, heads, D).

    Scores of both parts lie side by side, so that one softmax goes over both; the rows of a trunk go through one
    product of matrices, which reads the trunk once.

    Args:
        query: (B, heads, 1, D).
        key: Pages of the rows' own tokens, (P, key heads, S, D); every key head serves as many query heads.
        value: Likewise.
        trunks: In the order of their rows; a row may have none.
        layout: Which page and which node belongs to whom.
        scaling: Factor of the scores.

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
        mine, nodes = slice(trunk.start, trunk.end), trunk.keys.shape[1]
        product = torch.matmul(q_HBGD[:, mine].reshape(groups, -1, size), trunk.keys.transpose(-1, -2))
        seen = layout.seen_BN[mine, None, :nodes]
        torch.add(product.view(groups, -1, heads // groups, nodes), seen, out=scores[:, mine, :, :nodes])
    finer = torch.promote_types(query.dtype, torch.float32)
    chances = torch.softmax(scores, -1, dtype=finer).to(query.dtype)
    paged = chances[..., width:].unflatten(-1, (layout.pages, page))[:, row_P, :, number_P]
    said = torch.zeros_like(q_BHGD).index_add_(0, row_P, torch.matmul(paged, value))
    for trunk in trunks:
        mine, nodes = slice(trunk.start, trunk.end), trunk.keys.shape[1]
        product = torch.matmul(chances[:, mine, :, :nodes].reshape(groups, -1, nodes), trunk.values)
        said[mine] += product.view(groups, -1, heads // groups, size).transpose(0, 1)
    return said.reshape(rows, 1, heads, size)


def _attention(
    _: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor,
    scaling: float | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """What :func:`attend` gives, in the form that transformers expects; ``key`` carries trunks and layout."""
    if any(rest.get(name) is not None for name in FOREIGN):
        raise ValueError("this model's attention is more than a softmax of scaled products")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    trunks, layout = carried(key)
    layout.reads += 1
    return attend(query, key, value, trunks=trunks, layout=layout, scaling=scale), None


def carrying(key: torch.Tensor, trunks: Sequence[Trunk], layout: Layout) -> torch.Tensor:
    """The keys themselves, with what is attached for the attention that is called with them.

    A model hands its attention the keys that its cache gave it, and nothing else of the cache.
    """
    key.carried = trunks, layout  # type: ignore[attr-defined]
    return key


def carried(key: torch.Tensor) -> tuple[Sequence[Trunk], Layout]:
    """What :func:`carrying` attached.

    Raises:
        AttributeError: The model has made other keys of them.
    """
    return key.carried  # type: ignore[attr-defined, no-any-return]


@contextmanager
def switched(model: Any, name: str) -> Iterator[None]:
    """Within it, the model's attention is the kind of this name."""
    config = model.config.get_text_config()
    before = config._attn_implementation  # transformers has no other name for it
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


AttentionInterface.register(NAME, _attention)
