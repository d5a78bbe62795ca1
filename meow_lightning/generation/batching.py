"""The plain way to continue prompts: a batch, a cache of the model's own, nothing shared; and the choice of a token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import DynamicCache

from meow_lightning.types import NotFiniteError

Model = Callable[..., Any]  # something that gives logits
BLOCK = 64  # divides the vocabulary of most models
NO_NUMBERS = (
    "the model's logits are not finite numbers: its weights are broken, its training diverged, or they overflow in "
    "float16 (then say model.precision=bf16-true or 32-true)"
)
MARGIN = 1e-4  # of two logits in fp32 that another order of summing may put the other way round


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


def choose(logits_RV: torch.Tensor) -> tuple[list[int], list[bool]]:  # noqa: N803
    """The most likely token of every row, and whether another one is so close that rounding may have decided.

    Formats of half the width round so coarsely that equal logits are common; there nothing counts as close.

    Args:
        logits_RV: (R, V). Where a row's best logit is NaN or infinite the choice counts as close, in any format, so
            that the row is asked again by itself.
    """
    if logits_RV.dtype not in (torch.float32, torch.float64):
        best_R, tokens_R = logits_RV.float().max(-1)  # noqa: N806
        return tokens_R.tolist(), (~best_R.isfinite()).tolist()
    tokens_R, gap_R = _best(logits_RV)  # noqa: N806
    clear_R = (gap_R > MARGIN) & gap_R.isfinite()  # noqa: N806  # what is not a number is close to everything
    if not bool(clear_R.all()):
        best_R, tokens_R = logits_RV.max(-1)  # noqa: N806  # of equal ones the first
        clear_R = (gap_R > MARGIN) & best_R.isfinite()  # noqa: N806
    return tokens_R.tolist(), (~clear_R).tolist()


def check_logits(best_R: torch.Tensor) -> None:  # noqa: N803
    """Refuse a model that gives no numbers.

    Args:
        best_R: The largest logit of every row; NaN where one of the row is NaN.

    Raises:
        NotFiniteError: One is NaN or infinite.
    """
    if not bool(best_R.isfinite().all()):
        raise NotFiniteError(NO_NUMBERS)


def _best(logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: N803
    """The place of the largest value of every row, and how much smaller the second largest is."""
    size = logits_RV.shape[-1]
    if size % BLOCK or size == BLOCK:
        best = logits_RV.topk(2, -1)
        return best.indices[:, 0], best.values[:, 0] - best.values[:, 1]
    # the largest value of a row is found ten times faster than its place: look for the place in one block only
    blocks = logits_RV.unflatten(-1, (-1, BLOCK))
    outer = blocks.amax(-1).topk(2, -1)
    block_R = outer.indices[:, 0]  # noqa: N806
    inner = blocks[torch.arange(len(blocks), device=blocks.device), block_R].topk(2, -1)
    second = torch.maximum(outer.values[:, 1], inner.values[:, 1])
    return block_R * BLOCK + inner.indices[:, 0], inner.values[:, 0] - second


class Batch:
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
    def advance(self) -> list[tuple[int, Continuation | None]]:
        """One token further; the rows that this token ended, ``None`` where several rows made it a close choice.

        Raises:
            NotFiniteError: The logits of a prompt by itself are NaN or infinite: whatever were chosen would read as an
                answer, and as forgotten.
        """
        logits = self._model(
            input_ids=self._ids_BT,
            attention_mask=self._attention_BT,
            position_ids=self._positions_BT,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        tokens, close = choose(logits[:, -1])
        if any(close) and len(self._said) == 1:
            check_logits(logits[:, -1].amax(-1))
        finished: list[tuple[int, Continuation | None]] = []
        kept: list[int] = []
        for place, (row, token) in enumerate(zip(self.rows, tokens, strict=True)):
            said = self._said[row]
            if close[place] and len(self._said) > 1:
                finished.append((row, None))
            elif token in self._end_ids:
                finished.append((row, Continuation(tuple(said), token)))
            else:
                said.append(token)
                if len(said) == self._budgets[row]:
                    finished.append((row, Continuation(tuple(said), None)))
                else:
                    kept.append(place)
        self._feed(tokens, kept)
        return finished

    def _feed(self, tokens: list[int], kept: list[int]) -> None:
        if len(kept) < len(self.rows):
            self.rows = [self.rows[place] for place in kept]
            if not kept:
                return
            tokens = [tokens[place] for place in kept]
            places = torch.tensor(kept, device=self._ids_BT.device)
            self._attention_BT = self._attention_BT[places]
            self._positions_BT = self._positions_BT[places]
            self._cache.batch_select_indices(places)
        self._ids_BT = torch.tensor(tokens, device=self._ids_BT.device)[:, None]
        self._attention_BT = torch.cat([self._attention_BT, torch.ones_like(self._ids_BT)], dim=-1)
        self._positions_BT = self._positions_BT[:, -1:] + 1


def continue_alone(
    model: Model, prompt: Sequence[int], *, budget: int, end_ids: frozenset[int], pad_id: int
) -> Continuation:
    """What the model says after a prompt that shares its forward passes with none: the text to be equal to."""
    batch = Batch(model=model, prompts=[prompt], budgets=[budget], end_ids=end_ids, pad_id=pad_id)
    while True:
        for _, continuation in batch.advance():
            if continuation is not None:
                return continuation


def continue_in_batches(
    model: Model,
    budgets: dict[tuple[int, ...], int],
    *,
    end_ids: frozenset[int],
    pad_id: int,
    slots: int,
) -> Iterator[tuple[tuple[int, ...], Continuation | None]]:
    """Every prompt with what the model says, ``None`` where rounding may have decided; ``slots`` rows at a time."""
    # alike lengths waste little padding; the longest come first so that too little memory shows at once
    waiting = sorted(budgets, key=len, reverse=True)
    for start in range(0, len(waiting), slots):
        prompts = waiting[start : start + slots]
        batch = Batch(
            model=model, prompts=prompts, budgets=[budgets[each] for each in prompts], end_ids=end_ids, pad_id=pad_id
        )
        while batch.rows:
            for row, continuation in batch.advance():
                yield prompts[row], continuation
