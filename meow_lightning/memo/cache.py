"""Keys and values of rows that begin, grow and end on their own: what a tree computed once, rows take over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import Cache, DynamicCache, PreTrainedConfig

from meow_lightning.memo.tree import Tree, plant

Model = Callable[..., Any]  # something that gives logits
STEP = 32  # a wider cache is a copy of the whole: not for every token
MASKED = ("sdpa", "eager")  # kinds of attention that take a mask of every row and position


class Grove:
    """Trees that went through the model together: what follows every node, and the nodes' keys and values.

    Attributes:
        trees: The trees, one per row.
        logits: What follows the nodes from ``start`` on, (trees, nodes - start, V).
        start: The first node with logits.
        layers: Keys and values of every layer, each (trees, heads, nodes, D).
        device: Where the model is.

    """

    @torch.inference_mode()
    def __init__(self, model: Model, trees: Sequence[Tree], *, pad_id: int, dtype: torch.dtype) -> None:
        self.trees = trees
        self.start = min(tree.first_end for tree in trees)
        width = max(len(tree) for tree in trees)
        self.device = device = getattr(model, "device", None)
        seen_BTT = torch.eye(width, dtype=torch.bool).repeat(len(trees), 1, 1)  # noqa: N806
        for seen, tree in zip(seen_BTT, trees, strict=True):
            for above, start, end in tree.chains():
                if above >= 0:
                    seen[start:end] = seen[above]
                seen[start:end, start:end] = torch.ones(end - start, end - start, dtype=torch.bool).tril()
        cache = DynamicCache()
        self.logits = model(
            input_ids=_padded([tree.tokens for tree in trees], width, pad_id, device),
            attention_mask=_additive(seen_BTT[:, None].to(device), dtype),
            position_ids=_padded([tree.depths for tree in trees], width, 0, device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=width - self.start,
        ).logits[:, self.start - width :]
        layers: list[Any] = list(cache.layers)
        self.layers: list[tuple[torch.Tensor, torch.Tensor]] = [(layer.keys, layer.values) for layer in layers]


class Slots(Cache):
    """A cache whose rows have lengths of their own; the live rows are the first ones.

    Args:
        rows: Most rows side by side.
        dtype: Of the masks, that of the model's weights.
    """

    def __init__(self, *, rows: int, dtype: torch.dtype) -> None:
        super().__init__(layers=[])
        self.lengths: list[int] = []
        self._rows, self._dtype, self._width = rows, dtype, 0
        self._stored: list[list[torch.Tensor]] = []
        self._rows_B = self._lengths_B = torch.empty(0, dtype=torch.long)
        self._reach = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of all rows, this token's included (B, heads, longest row, D); asked for by the model."""
        keys, values = self._stored[layer_idx]
        keys[self._rows_B, :, self._lengths_B] = key_states[:, :, 0]
        values[self._rows_B, :, self._lengths_B] = value_states[:, :, 0]
        rows = len(self.lengths)
        return keys[:rows, :, : self._reach], values[:rows, :, : self._reach]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the longest row before this step."""
        return max(self.lengths, default=0)

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Positions that attention sees, and where they begin."""
        return self._reach, 0

    @torch.inference_mode()
    def admit(self, grove: Grove, places: Sequence[tuple[int, list[int]]]) -> None:
        """Rows that go on after a path of nodes of one of the grove's trees.

        Args:
            grove: Where keys and values come from.
            places: The tree's number and the path from its root of every row.
        """
        depth = max(len(path) for _, path in places)
        self._widen(depth, grove)
        before, device = len(self.lengths), grove.device
        self.lengths += [len(path) for _, path in places]
        trees = torch.tensor([[tree] for tree, _ in places], device=device)
        nodes = _padded([path for _, path in places], depth, 0, device)
        for mine, theirs in zip(self._stored, grove.layers, strict=True):
            for store, given in zip(mine, theirs, strict=True):
                store[before : len(self.lengths), :, :depth] = given[trees, :, nodes].transpose(1, 2)

    @torch.inference_mode()
    def keep(self, kept: Sequence[int]) -> list[int]:
        """Which of the former rows (``kept``) now stands at each place; the others are gone."""
        moved = sorted(kept)
        holes = sorted(set(range(len(moved))).difference(moved))
        late = [row for row in moved if row >= len(moved)]
        order = list(range(len(moved)))
        for hole, row in zip(holes, late, strict=True):
            order[hole] = row
        if holes:
            reach = max(self.lengths[row] for row in late)
            for store in (each for layer in self._stored for each in layer):
                store[holes, :, :reach] = store[late, :, :reach]
        self.lengths = [self.lengths[row] for row in order]
        return order

    @torch.inference_mode()
    def advance(self, model: Model, tokens: Sequence[int]) -> torch.Tensor:
        """Logits after one more token of every row, (B, V)."""
        self._reach = max(self.lengths) + 1
        self._widen(self._reach, None)
        device = self._stored[0][0].device
        self._rows_B = torch.arange(len(tokens), device=device)
        self._lengths_B = torch.tensor(self.lengths, device=device)
        seen_BT = torch.arange(self._reach, device=device) <= self._lengths_B[:, None]  # noqa: N806
        logits = model(
            input_ids=torch.tensor(tokens, device=device)[:, None],
            attention_mask=_additive(seen_BT[:, None, None], self._dtype),
            position_ids=self._lengths_B[:, None],
            past_key_values=self,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        self.lengths = [length + 1 for length in self.lengths]
        return logits[:, -1]

    def _widen(self, width: int, like: Grove | None) -> None:
        if like is not None and not self._stored:
            self._stored = [[t.new_zeros(self._rows, t.shape[1], 0, t.shape[3]) for t in kv] for kv in like.layers]
        if width <= self._width:
            return
        self._width = -(-width // STEP) * STEP
        for layer in self._stored:
            for which, old in enumerate(layer):
                new = old.new_zeros(*old.shape[:2], self._width, old.shape[3])  # what is masked must be a number
                new[: len(self.lengths), :, : old.shape[2]] = old[: len(self.lengths)]
                layer[which] = new


def _padded(rows: Sequence[Sequence[int]], width: int, fill: int, device: Any) -> torch.Tensor:
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], device=device)


def _additive(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)


def dtype_of(model: Model) -> torch.dtype | None:
    """The number format of a model whose rows may share keys and values; ``None`` where its attention needs more.

    A model must come from transformers and see all earlier tokens in every layer, by a mask that it is given and
    positions that do not depend on the length of the text.
    """
    config = getattr(model, "config", None)
    if not isinstance(config, PreTrainedConfig):
        return None
    config = config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    rope = getattr(config, "rope_parameters", None) or {}
    unfit = (
        config._attn_implementation not in MASKED  # transformers has no other name for it
        or getattr(config, "is_encoder_decoder", False)
        or getattr(config, "sliding_window", None) is not None
        or not kinds <= {"full_attention"}
        or rope.get("rope_type") in ("dynamic", "longrope")
    )
    return None if unfit else getattr(model, "dtype", None)


@torch.inference_mode()
def agrees(model: Model, prompt: Sequence[int], *, pad_id: int, dtype: torch.dtype) -> bool:
    """Whether the model says the same after a shared beginning as after the whole, on a few of a prompt's tokens.

    What a model's code makes of masks and positions cannot be read from its configuration; three small forward passes
    show it.
    """
    probe = (tuple(prompt) * 4)[:8] if len(prompt) < 8 else tuple(prompt[:8])
    size = len(probe)
    tree = plant([probe[: size - 1], (*probe[: size - 3], pad_id)], most=2 * size)[0]
    slots = Slots(rows=2, dtype=dtype)
    try:
        whole = model(
            input_ids=torch.tensor([probe], device=getattr(model, "device", None)),
            attention_mask=torch.ones(1, size, dtype=torch.long, device=getattr(model, "device", None)),
            use_cache=False,
        ).logits[0]
        path = tree.path(tree.ends[probe[: size - 1]])
        grove = Grove(model, [tree], pad_id=pad_id, dtype=dtype)
        slots.admit(grove, [(0, path), (0, path[: size - 3])])
        shared = slots.advance(model, [probe[size - 1], probe[size - 3]])
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return False  # a model that cannot take such a mask or cache: the plain way is always right
    expected = whole[[size - 1, size - 3]].float()
    bound = 10 * torch.finfo(dtype).eps ** 0.5 * expected.abs().max()
    return bool(((shared.float() - expected).abs() <= bound).all())
