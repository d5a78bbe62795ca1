"""Greedy continuation of many prompts: the text of one-by-one generation in a fraction of the time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from meow_lightning.distributed import release_memory
from meow_lightning.errors import UserError
from meow_lightning.generation.batch_size import AdaptiveBatchSize
from meow_lightning.generation.batching import Continuation, Model, choose, continue_alone, continue_in_batches
from meow_lightning.generation.capabilities import border_of, dtype_of, supports_padding, supports_prefix_sharing
from meow_lightning.generation.kv_cache import Slots
from meow_lightning.generation.prefix_forward import PrefixForward
from meow_lightning.generation.prefix_tree import Prompt, Tree, batches, build_prefix_trees
from meow_lightning.generation.reference import reference_continuation

__all__ = ["Continuation", "continue_greedily"]

Result = tuple[Prompt, Continuation | None]  # None: rounding may have decided, ask the model alone
LARGEST_TREE = 160  # nodes; every row looks at all nodes of its tree
NODES_PER_SLOT = 16  # of prompts computed at once
READERS = 8  # rows that leave a tree, from which on they read it where it is
REFILL = 16  # a new row is let in with others: when 1/16 of the slots are free


@dataclass(slots=True)
class _PendingPrompt:
    """A prompt whose continuation begins with ``walked``, inside the tree, and goes on with what a row says."""

    prompt: Prompt
    walked: list[int]
    left: int  # tokens of its budget that the row has to say


@dataclass(slots=True)
class _Row:
    """A text that left its tree below ``node``: all prompts whose continuations pass there go on alike."""

    tree: int
    node: int
    said: list[int]
    pending: list[_PendingPrompt] = field(default_factory=list)


class _Rows:
    """Rows in slots of their own; a row that is done makes room for the next at once."""

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
        self._slots = Slots(dtype=dtype)
        self._groves = batches(build_prefix_trees(budgets, most=LARGEST_TREE), nodes=NODES_PER_SLOT * slots)
        self._waiting: list[_Row] = []  # the next one last
        self._grove: PrefixForward | None = None
        self._readers: list[int] = []  # by tree of the grove, rows that leave it
        self._rows: list[_Row] = []

    def results(self) -> Iterator[Result]:
        """Every prompt with what the model says, as soon as it is known."""
        more = True
        while more or self._rows:
            while more and len(self._rows) <= self._most - max(1, self._most // REFILL):
                if not self._waiting:
                    trees = next(self._groves, None)
                    more = trees is not None
                    yield from self._plant(trees or [])
                self._admit()
            if self._rows:
                yield from self._advance()

    def _plant(self, trees: list[Tree]) -> list[Result]:
        self._grove = None  # what no row reads any more makes room for the next
        if not trees:
            return []
        self._grove = PrefixForward(self._model, trees, pad_id=self._pad_id, dtype=self._dtype)
        tokens, close = _after(self._grove)
        finished: list[Result] = []
        self._readers = [0] * len(trees)
        for number, tree in enumerate(trees):
            rows: dict[int, _Row] = {}
            for prompt, node in tree.ends.items():
                found = self._walk(tree, prompt, node, tokens[number], close[number])
                if isinstance(found, tuple):
                    left_at, asker = found
                    row = rows.setdefault(left_at, _Row(number, left_at, [tokens[number][left_at]]))
                    row.pending.append(asker)
                else:
                    finished.append((prompt, found))
            self._readers[number] = len(rows)
            # what is long now is probably short still to come: the long texts begin first
            self._waiting += sorted(rows.values(), key=lambda row: tree.depths[row.node])
        self._waiting.reverse()
        self._grove.logits = torch.empty(0)  # larger than all the rest where the vocabulary is large
        return finished

    def _walk(
        self, tree: Tree, prompt: Prompt, node: int, tokens: list[int], close: list[bool]
    ) -> tuple[int, _PendingPrompt] | Continuation | None:
        """What follows a prompt inside the tree: all of it, or the last node in it and what is still to be said."""
        said: list[int] = []
        while not close[node]:
            token = tokens[node]
            if token in self._end_ids:
                return Continuation(tuple(said), token)
            left = self._budgets[prompt] - len(said)
            if left == 1:
                return Continuation((*said, token), None)
            if token not in tree.children[node]:
                return node, _PendingPrompt(prompt, said, left)
            said.append(token)
            node = tree.children[node][token]
        return None

    def _admit(self) -> None:
        count = min(self._most - len(self._rows), len(self._waiting))
        if not count or self._grove is None:
            return
        new = [self._waiting.pop() for _ in range(count)]
        for sharing, rows in itertools.groupby(new, key=lambda row: self._readers[row.tree] >= READERS):
            self._slots.admit(self._grove, [(row.tree, row.node) for row in rows], sharing=sharing)
        self._rows += new

    def _advance(self) -> list[Result]:
        tokens, close = choose(self._slots.advance(self._model, [row.said[-1] for row in self._rows]))
        finished: list[Result] = []
        kept: list[int] = []
        for place, (row, token) in enumerate(zip(self._rows, tokens, strict=True)):
            if close[place]:
                finished += [(asker.prompt, None) for asker in row.pending]
            elif token in self._end_ids:
                finished += [(each.prompt, Continuation((*each.walked, *row.said), token)) for each in row.pending]
            else:
                row.said.append(token)
                for each in [each for each in row.pending if each.left == len(row.said)]:
                    finished.append((each.prompt, Continuation((*each.walked, *row.said), None)))
                    row.pending.remove(each)
                if row.pending:
                    kept.append(place)
        if len(kept) < len(self._rows):
            self._slots.keep(kept)
            self._rows = [self._rows[place] for place in kept]
        return finished


def _after(prefix_forward: PrefixForward) -> tuple[list[list[int]], list[list[bool]]]:
    """By tree and node, the next token and whether the choice was close; nodes before the first end have none."""
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
        raise UserError(f"slots={slots} leaves no room for a prompt; allowed: whole numbers from 1. Nearest: slots=1")
    if getattr(model, "training", False):
        raise ValueError("the model is in training mode, where dropout would change its answers: call model.eval()")
    if len(prompts) != len(budgets):
        raise ValueError(f"{len(prompts)} prompts come with {len(budgets)} budgets: one budget per prompt is needed")
    for index, (prompt, budget) in enumerate(zip(prompts, budgets, strict=True)):
        if len(prompt) == 0 or budget < 0:
            raise ValueError(f"prompt {index} has {len(prompt)} tokens and a budget of {budget}: from 1 and from 0")


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
    """Pairs (index of the prompt, what the model says next), each as soon as it is known, in no promised order.

    The most likely token (of the logits in fp32) is taken at every position until an end token or the budget. Equal
    prompts are continued once, and what prompts have in common at their beginning is computed once. The text is that
    of generating prompts one by one: other batches sum floats in another order, so where the two best logits of an
    fp32 model lie closer than 1e-4 the prompt is continued again with no other beside it.

    Args:
        model: Any causal language model of transformers, in eval mode, or anything else that is called with
            ``input_ids`` and ``position_ids`` (B, T new tokens), ``attention_mask`` (B, T so far), ``past_key_values``
            (a ``DynamicCache``, empty at first), ``use_cache`` and ``logits_to_keep``, and returns an object with
            ``logits`` (B, 1 or more, V). Inputs are made on ``model.device`` where there is such a thing. Beginnings
            are shared where the model is one of transformers that attends to everything before, by a mask
            (B, 1, T, T so far) that it is given; one whose memory is no cache of keys and values is asked one by one.
        prompts: Token ids, at least one per prompt.
        budgets: Most new tokens of each prompt, the end token counted; from 0.
        end_ids: Tokens that end a text; may be empty.
        pad_id: Fills shorter rows; it is masked, so any token of the vocabulary will do.
        slots: Most rows in a batch, from 1. Changes speed and memory, not the text. When memory runs out, what is
            missing is asked with half of them; a room remembers that.
        progress: Called with the number of finished prompts; ``None`` for silence.
        alone: Called with the index of every prompt that was continued again by itself; ``None`` where nobody counts.

    Raises:
        UserError: ``slots`` below 1.
        ValueError: A model in training mode, a prompt without tokens, a negative budget, budgets that do not match.

    """
    room = slots if isinstance(slots, AdaptiveBatchSize) else AdaptiveBatchSize(slots, note=None)
    _check(model, prompts, budgets, room.slots)
    pending: dict[Prompt, list[int]] = {}
    for index, prompt in enumerate(prompts):
        pending.setdefault(tuple(prompt), []).append(index)
    most = {prompt: max(budgets[index] for index in indices) for prompt, indices in pending.items()}
    finished = 0
    for prompt, continuation, by_itself in _continue_distinct(
        model, most, end_ids=end_ids, pad_id=pad_id, room=room
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
    model: Model, budgets: dict[Prompt, int], *, end_ids: frozenset[int], pad_id: int, room: AdaptiveBatchSize
) -> Iterator[tuple[Prompt, Continuation, bool]]:
    """Every prompt with what the model says, and whether it was asked again by itself."""
    waiting = {prompt: budget for prompt, budget in budgets.items() if budget}
    yield from ((prompt, Continuation((), None), False) for prompt, budget in budgets.items() if not budget)
    close: list[Prompt] = []
    while waiting:
        try:
            for prompt, continuation in _together(
                model, dict(waiting), end_ids=end_ids, pad_id=pad_id, slots=room.slots
            ):  # fmt: skip
                del waiting[prompt]
                if continuation is None:
                    close.append(prompt)
                else:
                    yield prompt, continuation, False
        except (RuntimeError, MemoryError) as error:
            room.halve(error)
        if waiting:  # out here, where the error no longer holds the tensors of what failed
            release_memory()
    for prompt in close:  # by now all memory is theirs
        yield prompt, continue_alone(model, prompt, budget=budgets[prompt], end_ids=end_ids, pad_id=pad_id), True


def _together(
    model: Model, budgets: dict[Prompt, int], *, end_ids: frozenset[int], pad_id: int, slots: int
) -> Iterator[Result]:
    longest = max(budgets, key=len)
    dtype = dtype_of(model)
    if dtype is not None and supports_prefix_sharing(model, longest, pad_id=pad_id, dtype=dtype):
        rows = _Rows(model=model, budgets=budgets, end_ids=end_ids, pad_id=pad_id, slots=slots, dtype=dtype)
        yield from rows.results()
        return
    border = border_of(model)
    alone: list[Prompt] = []
    if isinstance(model, PreTrainedModel):
        padded = supports_padding(model, longest, pad_id=pad_id)
        alone = [each for each in budgets if not padded or (border and len(each) + budgets[each] > border)]
        for prompt in alone:
            yield prompt, reference_continuation(model, prompt, budget=budgets[prompt], end_ids=end_ids, pad_id=pad_id)
    lonely = set(alone)
    rest = {prompt: budget for prompt, budget in budgets.items() if prompt not in lonely}
    yield from continue_in_batches(model, rest, end_ids=end_ids, pad_id=pad_id, slots=slots)
