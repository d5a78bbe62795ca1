"""Greedy continuation of many prompts: the text of one-by-one generation at a fraction of the time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from meow_lightning.distributed import release_memory
from meow_lightning.errors import invalid_option
from meow_lightning.generation.batch_size import AdaptiveBatchSize
from meow_lightning.generation.batching import (
    Continuation,
    Model,
    choose,
    continue_alone,
    continue_in_batches,
    decoder_of,
)
from meow_lightning.generation.capabilities import (
    batch_length_limit,
    dtype_of,
    supports_padding,
    supports_prefix_sharing,
)
from meow_lightning.generation.kv_cache import PagedCache
from meow_lightning.generation.prefix_forward import PrefixForward
from meow_lightning.generation.prefix_tree import Prompt, Tree, batches, build_prefix_trees
from meow_lightning.generation.reference import reference_continuation
from meow_lightning.models.logits_model import LogitsModel

__all__ = ["Continuation", "continue_greedily"]

Result = tuple[Prompt, Continuation | None]  # None: rounding may have decided, so the prompt is recomputed alone
LARGEST_TREE = 160  # maximum number of nodes; every row attends over all nodes of its tree
NODES_PER_SLOT = 16  # prompt nodes per forward pass
READERS = 8  # minimum number of rows for which a tree is read in place
REFILL = 16  # new rows are admitted together, once 1/16 of the slots are free


@dataclass(slots=True)
class _PendingPrompt:
    """A prompt whose continuation starts with ``walked`` inside the tree and is completed by a row."""

    prompt: Prompt
    walked: list[int]
    left: int  # remaining budget for the row, in tokens


@dataclass(slots=True)
class _Row:
    """A text that left its tree at ``node``, shared by all prompts whose continuations pass through it."""

    tree: int
    node: int
    generated: list[int]
    pending: list[_PendingPrompt] = field(default_factory=list)


class _Rows:
    """Rows in independent slots; a finished row is replaced at once."""

    def __init__(
        self,
        *,
        model: Model,
        budgets: dict[Prompt, int],
        end_ids: frozenset[int],
        pad_id: int,
        slots: int,
        dtype: torch.dtype,
    ) -> None:
        self._model, self._budgets, self._end_ids, self._pad_id = model, budgets, end_ids, pad_id
        self._dtype, self._most = dtype, min(slots, len(budgets))
        self._slots = PagedCache(dtype=dtype)
        self._tree_batches = batches(build_prefix_trees(budgets, most=LARGEST_TREE), nodes=NODES_PER_SLOT * slots)
        self._waiting: list[_Row] = []  # in reverse order
        self._forward: PrefixForward | None = None
        self._readers: list[int] = []  # number of rows that leave each tree
        self._rows: list[_Row] = []

    def results(self) -> Iterator[Result]:
        """Yield every prompt with its continuation as soon as it is known."""
        more = True
        while more or self._rows:
            while more and len(self._rows) <= self._most - max(1, self._most // REFILL):
                if not self._waiting:
                    trees = next(self._tree_batches, None)
                    more = trees is not None
                    yield from self._process_trees(trees or [])
                self._admit()
            if self._rows:
                yield from self._advance()

    def _process_trees(self, trees: list[Tree]) -> list[Result]:
        self._forward = None  # free the previous trees before the next
        if not trees:
            return []
        self._forward = PrefixForward(self._model, trees, pad_id=self._pad_id, dtype=self._dtype)
        tokens, close = _after(self._forward)
        finished: list[Result] = []
        self._readers = [0] * len(trees)
        for number, tree in enumerate(trees):
            rows: dict[int, _Row] = {}
            for prompt, node in tree.ends.items():
                outcome = self._follow(tree, prompt, node, tokens[number], close[number])
                if isinstance(outcome, tuple):
                    left_at, pending = outcome
                    row = rows.setdefault(left_at, _Row(number, left_at, [tokens[number][left_at]]))
                    row.pending.append(pending)
                else:
                    finished.append((prompt, outcome))
            self._readers[number] = len(rows)
            # Rows at deep nodes probably have few tokens left, so those at shallow nodes start first.
            self._waiting += sorted(rows.values(), key=lambda row: tree.depths[row.node])
        self._waiting.reverse()
        self._forward.logits = torch.empty(0)  # free the logits: with a large vocabulary they are the largest tensor
        return finished

    def _follow(
        self, tree: Tree, prompt: Prompt, node: int, tokens: list[int], close: list[bool]
    ) -> tuple[int, _PendingPrompt] | Continuation | None:
        """Continue a prompt inside the tree; return its full continuation, or the last node and what is pending."""
        generated: list[int] = []
        while not close[node]:
            token = tokens[node]
            if token in self._end_ids:
                return Continuation(tuple(generated), token)
            left = self._budgets[prompt] - len(generated)
            if left == 1:
                return Continuation((*generated, token), None)
            if token not in tree.children[node]:
                return node, _PendingPrompt(prompt, generated, left)
            generated.append(token)
            node = tree.children[node][token]
        return None

    def _admit(self) -> None:
        count = min(self._most - len(self._rows), len(self._waiting))
        if not count or self._forward is None:
            return
        new = [self._waiting.pop() for _ in range(count)]
        for sharing, rows in itertools.groupby(new, key=lambda row: self._readers[row.tree] >= READERS):
            self._slots.admit(self._forward, [(row.tree, row.node) for row in rows], sharing=sharing)
        self._rows += new

    def _advance(self) -> list[Result]:
        tokens, close = choose(self._slots.advance(self._model, [row.generated[-1] for row in self._rows]))
        finished: list[Result] = []
        kept: list[int] = []
        for place, (row, token) in enumerate(zip(self._rows, tokens, strict=True)):
            if close[place]:
                finished += [(pending.prompt, None) for pending in row.pending]
            elif token in self._end_ids:
                finished += [(each.prompt, Continuation((*each.walked, *row.generated), token)) for each in row.pending]
            else:
                row.generated.append(token)
                for each in [each for each in row.pending if each.left == len(row.generated)]:
                    finished.append((each.prompt, Continuation((*each.walked, *row.generated), None)))
                    row.pending.remove(each)
                if row.pending:
                    kept.append(place)
        if len(kept) < len(self._rows):
            self._slots.keep(kept)
            self._rows = [self._rows[place] for place in kept]
        return finished


def _after(prefix_forward: PrefixForward) -> tuple[list[list[int]], list[list[bool]]]:
    """Compute the next token and whether it was close, by tree and node; nodes before the first end have none."""
    size = prefix_forward.logits.shape[1]
    tokens, close = choose(prefix_forward.logits.flatten(0, 1))
    blank = [0] * prefix_forward.start
    starts = range(0, len(tokens), size)
    return (
        [blank + tokens[start : start + size] for start in starts],
        [[True] * prefix_forward.start + close[start : start + size] for start in starts],
    )


def _check(model: Model, prompts: Sequence[Sequence[int]], budgets: Sequence[int], slots: int) -> None:
    if slots < 1:
        raise invalid_option("slots", slots, "an integer of at least 1", did_you_mean=1)
    if getattr(model, "training", False):
        raise ValueError("the model is in training mode, where dropout would change its outputs: call model.eval()")
    if len(prompts) != len(budgets):
        raise ValueError(f"{len(prompts)} prompts and {len(budgets)} budgets: expected one budget per prompt")
    for index, (prompt, budget) in enumerate(zip(prompts, budgets, strict=True)):
        if len(prompt) == 0 or budget < 0:
            raise ValueError(
                f"prompt {index} has {len(prompt)} tokens and a budget of {budget}: expected at least 1 and at least 0"
            )


def continue_greedily(
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    budgets: Sequence[int],
    end_ids: frozenset[int],
    pad_id: int,
    slots: int | AdaptiveBatchSize,
    progress: Callable[[int], None] | None,
    alone: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, Continuation]]:
    """Yield (index of the prompt, its continuation) as soon as each is known, in arbitrary order.

    Every token is the argmax of the fp32 logits, until an end token or the budget. Equal prompts are continued once,
    and common prefixes are computed once. The text equals that of generating prompts one by one: since other batches
    sum floats in a different order, a prompt of an fp32 model is recomputed alone if its two best logits are closer
    than 1e-4.

    Args:
        model: Any causal language model of transformers, in eval mode, or any other callable that accepts ``input_ids``
            and ``position_ids`` (B, T new tokens), ``attention_mask`` (B, T so far), ``past_key_values`` (an initially
            empty ``DynamicCache``), ``use_cache`` and ``logits_to_keep``, and returns an object with ``logits`` (B, 1
            or more, V). Inputs are created on ``model.device`` if it exists. Prefixes are shared if a transformers
            model attends to all earlier tokens by a given mask (B, 1, T, T so far); models without a key-value cache
            get one prompt at a time. A :class:`~meow_lightning.models.logits_model.LogitsModel` has a cache per model.
        prompts: Token ids, at least one per prompt.
        budgets: Maximum number of new tokens of each prompt, including the end token; from 0.
        end_ids: Tokens that end a text; may be empty.
        pad_id: Padding token; it is masked, so any token of the vocabulary works.
        slots: Maximum number of rows per batch, from 1; affects speed and memory, not the text. If memory runs out, the
            rest is generated with half of it; an :class:`AdaptiveBatchSize` remembers that.
        progress: Called with the number of finished prompts; ``None`` for silence.
        alone: Called with the index of every prompt that was recomputed alone; ``None`` if not needed.

    Raises:
        UserError: ``slots`` below 1.
        ValueError: The model is in training mode, a prompt is empty, or budgets are negative or do not match the
            prompts.

    """
    batch_size = slots if isinstance(slots, AdaptiveBatchSize) else AdaptiveBatchSize(slots, note=None)
    _check(model, prompts, budgets, batch_size.slots)
    pending: dict[Prompt, list[int]] = {}
    for index, prompt in enumerate(prompts):
        pending.setdefault(tuple(prompt), []).append(index)
    most = {prompt: max(budgets[index] for index in indices) for prompt, indices in pending.items()}
    finished = 0
    for prompt, continuation, by_itself in _continue_distinct(
        model, most, end_ids=end_ids, pad_id=pad_id, batch_size=batch_size
    ):  # fmt: skip
        if by_itself and alone is not None:
            for index in pending[prompt]:
                alone(index)
        for index in pending[prompt]:
            finished += 1
            yield index, continuation.within(budgets[index])
        if progress is not None:
            progress(finished)


def _continue_distinct(
    model: Model, budgets: dict[Prompt, int], *, end_ids: frozenset[int], pad_id: int, batch_size: AdaptiveBatchSize
) -> Iterator[tuple[Prompt, Continuation, bool]]:
    """Yield every prompt with its continuation, and whether it was recomputed alone."""
    waiting = {prompt: budget for prompt, budget in budgets.items() if budget}
    yield from ((prompt, Continuation((), None), False) for prompt, budget in budgets.items() if not budget)
    close: list[Prompt] = []
    while waiting:
        try:
            for prompt, continuation in _together(
                model, dict(waiting), end_ids=end_ids, pad_id=pad_id, slots=batch_size.slots
            ):  # fmt: skip
                del waiting[prompt]
                if continuation is None:
                    close.append(prompt)
                else:
                    yield prompt, continuation, False
        except (RuntimeError, MemoryError) as error:
            batch_size.halve(error)
        if waiting:  # outside the handler, where the error no longer references the failed tensors
            release_memory()
    decoder = decoder_of(model)
    for prompt in close:  # after the batches, with all memory available
        yield prompt, continue_alone(decoder, prompt, budget=budgets[prompt], end_ids=end_ids, pad_id=pad_id), True


def _together(
    model: Model, budgets: dict[Prompt, int], *, end_ids: frozenset[int], pad_id: int, slots: int
) -> Iterator[Result]:
    longest = max(budgets, key=len)
    dtype = dtype_of(model)
    if dtype is not None and supports_prefix_sharing(model, longest, pad_id=pad_id, dtype=dtype):
        rows = _Rows(model=model, budgets=budgets, end_ids=end_ids, pad_id=pad_id, slots=slots, dtype=dtype)
        yield from rows.results()
        return
    border = batch_length_limit(model)
    alone: list[Prompt] = []
    if isinstance(model, PreTrainedModel | LogitsModel):
        padded = supports_padding(model, longest, pad_id=pad_id)
        alone = [each for each in budgets if not padded or (border and len(each) + budgets[each] > border)]
        for prompt in alone:
            yield prompt, reference_continuation(model, prompt, budget=budgets[prompt], end_ids=end_ids, pad_id=pad_id)
    separate = set(alone)
    rest = {prompt: budget for prompt, budget in budgets.items() if prompt not in separate}
    yield from continue_in_batches(decoder_of(model), rest, end_ids=end_ids, pad_id=pad_id, slots=slots)
