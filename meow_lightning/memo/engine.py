"""Greedy continuation of many prompts: the text of one-by-one generation in a fraction of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import DynamicCache

from meow_lightning.types import UserError

Model = Callable[..., Any]  # something that gives logits


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a model says after one prompt.

    Attributes:
        ids: The new tokens, the end token not included.
        end: The end token that the model stopped with; ``None`` when the budget stopped it.

    """

    ids: tuple[int, ...]
    end: int | None

    @property
    def stop(self) -> Literal["end", "length"]:
        """``"end"`` when the model ended it, ``"length"`` when the budget did."""
        return "length" if self.end is None else "end"

    def within(self, budget: int) -> Continuation:
        """The same continuation under a smaller budget (in tokens, the end token counted)."""
        return self if len(self.ids) < budget else Continuation(self.ids[:budget], None)


class _Batch:
    """Rows that are continued together; rows that are done leave the batch and its cache.

    Every tensor lives inside ``__init__`` and ``advance``, both in inference mode: a generator that held the mode open
    across a ``yield`` would leave its caller in it.
    """

    @torch.inference_mode()
    def __init__(
        self,
        *,
        model: Model,
        prompts: Sequence[Sequence[int]],
        budgets: Sequence[int],
        end_ids: frozenset[int],
        pad_id: int,
    ) -> None:
        self._model, self._budgets, self._end_ids = model, budgets, end_ids
        self._said: list[list[int]] = [[] for _ in prompts]
        self.rows = list(range(len(prompts)))  # which prompt sits at each place of the batch
        width = max(len(prompt) for prompt in prompts)
        padding = [width - len(prompt) for prompt in prompts]
        device = getattr(model, "device", None)
        self._ids_BT = torch.tensor(
            [[pad_id] * blank + list(prompt) for blank, prompt in zip(padding, prompts, strict=True)], device=device
        )
        self._attention_BT = torch.tensor([[0] * blank + [1] * (width - blank) for blank in padding], device=device)
        self._positions_BT = (self._attention_BT.cumsum(-1) - 1).clamp(min=0)
        self._cache = DynamicCache()

    @torch.inference_mode()
    def advance(self) -> list[tuple[int, Continuation]]:
        """One token further; the rows that this token ended."""
        logits = self._model(
            input_ids=self._ids_BT,
            attention_mask=self._attention_BT,
            position_ids=self._positions_BT,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        tokens_B = logits[:, -1].float().argmax(-1)  # noqa: N806
        finished: list[tuple[int, Continuation]] = []
        kept: list[int] = []
        for place, (row, token) in enumerate(zip(self.rows, tokens_B.tolist(), strict=True)):
            said = self._said[row]
            if token in self._end_ids:
                finished.append((row, Continuation(tuple(said), token)))
                continue
            said.append(token)
            if len(said) == self._budgets[row]:
                finished.append((row, Continuation(tuple(said), None)))
            else:
                kept.append(place)
        self._feed(tokens_B, kept)
        return finished

    def _feed(self, tokens_B: torch.Tensor, kept: list[int]) -> None:  # noqa: N803
        if len(kept) < len(self.rows):
            self.rows = [self.rows[place] for place in kept]
            if not kept:
                return
            places = torch.tensor(kept, device=tokens_B.device)
            tokens_B = tokens_B[places]  # noqa: N806
            self._attention_BT = self._attention_BT[places]
            self._positions_BT = self._positions_BT[places]
            self._cache.batch_select_indices(places)
        self._ids_BT = tokens_B[:, None]
        self._attention_BT = torch.cat([self._attention_BT, torch.ones_like(self._ids_BT)], dim=-1)
        self._positions_BT = self._positions_BT[:, -1:] + 1


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
    slots: int,
    progress: Callable[[int], None] | None,
) -> Iterator[tuple[int, Continuation]]:
    """Pairs (index of the prompt, what the model says next), each as soon as it is known, in no promised order.

    The most likely token (of the logits in fp32) is taken at every position until an end token or the budget. Equal
    prompts are continued once. The text is that of generating prompts one by one, but for near-ties: another batch
    size sums floats in another order.

    Args:
        model: Any causal language model of transformers, in eval mode, or anything else that is called with
            ``input_ids`` and ``position_ids`` (B, T new tokens), ``attention_mask`` (B, T so far), ``past_key_values``
            (a ``DynamicCache``, empty at first), ``use_cache`` and ``logits_to_keep``, and returns an object with
            ``logits`` (B, 1 or more, V). Inputs are made on ``model.device`` where there is such a thing.
        prompts: Token ids, at least one per prompt.
        budgets: Most new tokens of each prompt, the end token counted; from 0.
        end_ids: Tokens that end a text; may be empty.
        pad_id: Fills shorter rows on the left; it is masked, so any token of the vocabulary will do.
        slots: Most rows in a batch, from 1. Changes speed and memory, not the text.
        progress: Called with the number of finished prompts; ``None`` for silence.

    Raises:
        UserError: ``slots`` below 1.
        ValueError: A model in training mode, a prompt without tokens, a negative budget, budgets that do not match.

    """
    _check(model, prompts, budgets, slots)
    askers: dict[tuple[int, ...], list[int]] = {}
    for index, prompt in enumerate(prompts):
        askers.setdefault(tuple(prompt), []).append(index)
    most = {prompt: max(budgets[index] for index in indices) for prompt, indices in askers.items()}
    finished = 0
    for prompt, continuation in _continue_distinct(model, most, end_ids=end_ids, pad_id=pad_id, slots=slots):
        for index in askers[prompt]:
            finished += 1
            yield index, continuation.within(budgets[index])
        if progress is not None:
            progress(finished)


def _continue_distinct(
    model: Model, budgets: dict[tuple[int, ...], int], *, end_ids: frozenset[int], pad_id: int, slots: int
) -> Iterator[tuple[tuple[int, ...], Continuation]]:
    for prompt, budget in budgets.items():
        if budget == 0:
            yield prompt, Continuation((), None)
    # alike lengths waste little padding; the longest come first so that too little memory shows at once
    waiting = sorted((prompt for prompt, budget in budgets.items() if budget), key=len, reverse=True)
    for start in range(0, len(waiting), slots):
        prompts = waiting[start : start + slots]
        batch = _Batch(
            model=model, prompts=prompts, budgets=[budgets[each] for each in prompts], end_ids=end_ids, pad_id=pad_id
        )
        while batch.rows:
            for row, continuation in batch.advance():
                yield prompts[row], continuation
