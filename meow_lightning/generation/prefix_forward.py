"""Forward pass over prefix trees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from meow_lightning.generation.prefix_tree import Tree

Model = Callable[..., Any]  # anything that returns logits


class PrefixForward:
    """A batch of prefix trees after a joint forward pass: logits and key-value tensors of their nodes.

    Attributes:
        trees: The trees, one per row.
        logits: Next-token logits of the nodes from ``start`` on, (trees, nodes - start, V).
        start: The first node with logits.
        layers: Keys and values of every layer, each (trees, heads, nodes, D).
        device: Device of the model.

    """

    @torch.inference_mode()
    def __init__(self, model: Model, trees: Sequence[Tree], *, pad_id: int, dtype: torch.dtype) -> None:
        self.trees = trees
        self._trunks: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self.start = min(tree.first_end for tree in trees)
        width = max(len(tree) for tree in trees)
        self.device = device = getattr(model, "device", None)
        seen_BTT = torch.eye(width, dtype=torch.bool).repeat(len(trees), 1, 1)  # noqa: N806
        for seen, tree in zip(seen_BTT, trees, strict=True):
            for above, start, end in tree.chains():
                if above >= 0:
                    seen[start:end] = seen[above]
                seen[start:end, start:end] = torch.ones(end - start, end - start, dtype=torch.bool).tril()
        self._seen_BTT = seen_BTT.to(device)
        cache = DynamicCache()
        self.logits = model(
            input_ids=_padded([tree.tokens for tree in trees], width, pad_id, device),
            attention_mask=additive(self._seen_BTT[:, None], dtype),
            position_ids=_padded([tree.depths for tree in trees], width, 0, device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=width - self.start,
        ).logits[:, self.start - width :]
        layers: list[Any] = list(cache.layers)
        self.layers: list[tuple[torch.Tensor, torch.Tensor]] = [(layer.keys, layer.values) for layer in layers]

    def trunk(self, tree: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Copy one tree's keys and values per layer, (heads, nodes, D) each: rows outlive this object."""
        if tree not in self._trunks:
            nodes = len(self.trees[tree])
            self._trunks[tree] = [tuple(part[tree, :, :nodes].clone() for part in kv) for kv in self.layers]  # type: ignore[misc]
        return self._trunks[tree]

    def seen(self, tree: int, nodes: Sequence[int]) -> torch.Tensor:
        """Compute which nodes of a tree lie on the paths to the given nodes, (len(nodes), nodes of the tree)."""
        return self._seen_BTT[tree, list(nodes), : len(self.trees[tree])]


def _padded(rows: Sequence[Sequence[int]], width: int, fill: int, device: Any) -> torch.Tensor:
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], device=device)


def additive(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Convert a mask to an additive attention bias: 0 if visible, else the smallest finite number."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)
