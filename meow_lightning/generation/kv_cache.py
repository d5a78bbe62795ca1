"""Paged key-value cache of rows that start, grow and end independently and share their prefixes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import Cache

from meow_lightning.generation.prefix_attention import NAME, PageLayout, Trunk, attach_context, attention_implementation
from meow_lightning.generation.prefix_forward import Model, PrefixForward, additive

PAGE = 16  # tokens per page; small pages waste fewer positions, large ones mean less bookkeeping
STEP = 32  # pages added whenever the store grows; growing copies the whole store


@dataclass(slots=True)
class _RowSpan:
    """Consecutive rows that share a tree's keys and values by layer; without these, each row has its own full path."""

    rows: int
    layers: list[tuple[torch.Tensor, torch.Tensor]] | None

    @property
    def nodes(self) -> int:
        """Number of tree nodes that the rows attend to."""
        return 0 if self.layers is None else self.layers[0][0].shape[1]

    def trunk(self, layer: int, start: int) -> list[Trunk]:
        """Return the trunk that the rows share in a layer, or an empty list; ``start`` is the first row."""
        return [] if self.layers is None else [Trunk(start, start + self.rows, *self.layers[layer])]


class PagedCache(Cache):
    """Key-value cache with independent row lengths and shared prefixes.

    A row's own tokens are stored on pages of ``PAGE`` tokens; the used pages are the first ones of the store.

    Args:
        dtype: Dtype of the masks, that of the model's weights.
    """

    def __init__(self, *, dtype: torch.dtype) -> None:
        super().__init__(layers=[])
        self._dtype = dtype
        self._lengths: list[int] = []  # own tokens by row
        self._depths: list[int] = []  # shared tokens before them, by row
        self._runs: list[_RowSpan] = []
        self._pages: list[list[int]] = []  # by row
        self._used = 0  # pages
        self._stored: list[list[torch.Tensor]] = []  # by layer, keys and values: (pages, heads, PAGE, D)
        self._seen_BN = torch.empty(0, 0, dtype=dtype)
        self._layout: PageLayout
        self._updates = 0  # number of layer updates in the last step
        self._here: tuple[torch.Tensor, torch.Tensor]  # page and position of the current token

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the current token and return the rows' own keys and values, (pages, heads, PAGE, D).

        The shared prefixes are attached to the keys. Called by the model.
        """
        self._updates += 1
        keys, values = self._stored[layer_idx]
        pages, places = self._here
        keys[pages, :, places] = key_states[:, :, 0]
        values[pages, :, places] = value_states[:, :, 0]
        start = 0
        trunks: list[Trunk] = []
        for run in self._runs:
            trunks += run.trunk(layer_idx, start)
            start += run.rows
        return attach_context(keys[: self._used], trunks, self._layout), values[: self._used]

    @property
    def all_layers_paged(self) -> bool:
        """Whether every layer of the last step that requested keys used the attention function that handles pages."""
        return self._updates == self._layout.reads

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the length of the longest row before this step, in tokens."""
        return max(map(sum, zip(self._lengths, self._depths, strict=True)), default=0)

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Return the number of visible positions and the first of them."""
        return self.get_seq_length() + query_length, 0

    @torch.inference_mode()
    def admit(self, prefix_forward: PrefixForward, places: Sequence[tuple[int, int]], *, sharing: bool) -> None:
        """Add rows that continue from nodes of the prefix trees.

        Args:
            prefix_forward: Source of the keys and values.
            places: Tree and last node of every row's path; rows of the same tree must be consecutive.
            sharing: Whether rows read the tree in place; otherwise each copies its path, which pays off if few rows
                read a tree.
        """
        if not self._stored:
            self._stored = [[t.new_zeros(0, t.shape[1], PAGE, t.shape[3]) for t in kv] for kv in prefix_forward.layers]
        paths = [prefix_forward.trees[tree].path(node) for tree, node in places]
        lengths, nothing = [len(path) for path in paths], [0] * len(paths)
        self._lengths += nothing if sharing else lengths
        self._depths += lengths if sharing else nothing
        if sharing:
            self._pages += [[] for _ in paths]
            for tree, group in itertools.groupby(places, key=lambda place: place[0]):
                self._share(prefix_forward, tree, [node for _, node in group])
        else:
            self._copy(prefix_forward, [tree for tree, _ in places], paths)

    def _share(self, prefix_forward: PrefixForward, tree: int, nodes: list[int]) -> None:
        trunk = prefix_forward.trunk(tree)
        if self._runs and self._runs[-1].layers is trunk:
            self._runs[-1].rows += len(nodes)
        else:
            self._runs.append(_RowSpan(len(nodes), trunk))
        self._extend_mask(additive(prefix_forward.seen(tree, nodes), self._dtype))

    def _copy(self, prefix_forward: PrefixForward, trees: Sequence[int], paths: Sequence[list[int]]) -> None:
        self._runs.append(_RowSpan(len(paths), None))
        self._extend_mask(torch.empty(len(paths), 0, dtype=self._dtype, device=prefix_forward.device))
        filled = [path + [0] * (-len(path) % PAGE) for path in paths]
        first = self._used
        self._pages += [self._take(len(path) // PAGE) for path in filled]
        tree_T = torch.tensor(  # noqa: N806
            [tree for tree, path in zip(trees, filled, strict=True) for _ in path], device=prefix_forward.device
        )
        node_T = torch.tensor([node for path in filled for node in path], device=prefix_forward.device)  # noqa: N806
        for stored, theirs in zip(self._stored, prefix_forward.layers, strict=True):
            for store, given in zip(stored, theirs, strict=True):
                store[first : self._used] = given[tree_T, :, node_T].unflatten(0, (-1, PAGE)).transpose(1, 2)

    def _extend_mask(self, seen: torch.Tensor) -> None:
        """Append rows to the trunk mask, padding both sides to the same width."""
        width = max(seen.shape[1], self._seen_BN.shape[1])
        both = [functional.pad(each.to(seen.device), (0, width - each.shape[1])) for each in (self._seen_BN, seen)]
        self._seen_BN = torch.cat(both)

    def _take(self, pages: int) -> list[int]:
        """Allocate pages and return their numbers."""
        first, self._used = self._used, self._used + pages
        available = len(self._stored[0][0])
        if self._used > available:
            more = max(self._used - available, available // 4, STEP)
            for layer in self._stored:
                # One layer at a time, to limit peak memory.
                layer[:] = [functional.pad(store, (0,) * 7 + (more,)) for store in layer]
        return list(range(first, self._used))

    @torch.inference_mode()
    def keep(self, kept: Sequence[int]) -> None:
        """Keep only the given rows, in ascending order."""
        first = 0
        staying = set(kept)
        for run in self._runs:
            last = first + run.rows
            run.rows = sum(row in staying for row in range(first, last))
            first = last
        self._runs = [run for run in self._runs if run.rows]
        self._lengths = [self._lengths[row] for row in kept]
        self._depths = [self._depths[row] for row in kept]
        self._pages = [self._pages[row] for row in kept]
        width = max((run.nodes for run in self._runs), default=0)
        self._seen_BN = self._seen_BN[list(kept), :width]
        self._close_up()

    def _close_up(self) -> None:
        """Move pages into freed ones to keep the used pages contiguous."""
        used = sum(map(len, self._pages))
        taken = {page for pages in self._pages for page in pages}
        free = [page for page in range(used) if page not in taken]
        late = sorted(page for page in taken if page >= used)
        if late:
            for store in (each for layer in self._stored for each in layer):
                store[free] = store[late]
            moved = dict(zip(late, free, strict=True))
            self._pages = [[moved.get(page, page) for page in pages] for pages in self._pages]
        self._used = used

    @torch.inference_mode()
    def advance(self, model: Model, tokens: Sequence[int]) -> torch.Tensor:
        """Feed one token per row and return the next logits, (B, V)."""
        for pages, length in zip(self._pages, self._lengths, strict=True):
            if length == len(pages) * PAGE:
                pages += self._take(1)
        device = self._stored[0][0].device
        self._arrange(device)
        self._updates = 0
        positions = [sum(each) for each in zip(self._lengths, self._depths, strict=True)]
        with attention_implementation(model, NAME):
            logits = model(
                input_ids=torch.tensor(tokens, device=device)[:, None],
                attention_mask=torch.zeros(len(tokens), 1, 1, 1, dtype=self._dtype, device=device),  # unused
                position_ids=torch.tensor(positions, device=device)[:, None],
                past_key_values=self,
                use_cache=True,
                logits_to_keep=1,
            ).logits
        self._lengths = [length + 1 for length in self._lengths]
        return logits[:, -1]

    def _arrange(self, device: torch.device) -> None:
        """Prepare the layout of rows and pages for the layers of this step."""
        owners = [(0, 0, 0)] * self._used
        for row, (pages, length) in enumerate(zip(self._pages, self._lengths, strict=True)):
            for number, page in enumerate(pages):
                owners[page] = row, number, length + 1 - number * PAGE
        row_P, number_P, filled_P = torch.tensor(owners).T.contiguous().to(device)  # noqa: N806
        used_PS = torch.arange(PAGE, device=device) < filled_P[:, None]  # noqa: N806
        self._layout = PageLayout(
            seen_BN=self._seen_BN, row_P=row_P, number_P=number_P, pages=max(map(len, self._pages)),
            used_P1S=additive(used_PS[:, None], self._dtype),
        )  # fmt: skip
        last = [pages[length // PAGE] for pages, length in zip(self._pages, self._lengths, strict=True)]
        self._here = torch.tensor(last, device=device), torch.tensor(self._lengths, device=device) % PAGE
