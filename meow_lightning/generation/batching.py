"""Plain batched generation with the model's own cache and without prefix sharing, and greedy token selection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import DynamicCache

from meow_lightning.errors import NotFiniteError
from meow_lightning.models.logits_model import LogitsModel

Model = Callable[..., Any]  # anything that returns logits
Places = Sequence[tuple[int, int]]  # (text of a batch, number of its next token) in every row of the logits
Select = Callable[[torch.Tensor, Places], tuple[list[int], list[bool]]]  # tokens, and whether rounding may have decided
BLOCK = 64  # divides the vocabulary of most models
NO_NUMBERS = (
    "the model's logits are not finite: its weights are damaged, its training diverged, or they overflow in "
    "float16 (then set model.precision=bf16-true or 32-true)"
)
MARGIN = 1e-4  # gap of two fp32 logits that a different summation order may reverse


@dataclass(frozen=True, slots=True)
class Continuation:
    """A model's continuation of one prompt.

    Attributes:
        ids: The new tokens, excluding the end token.
        end: The end token; ``None`` if the budget ran out.

    """

    ids: tuple[int, ...]
    end: int | None

    @property
    def stop(self) -> Literal["end", "length"]:
        """Stop reason: ``"end"`` if the model emitted an end token, ``"length"`` if the budget ran out."""
        return "length" if self.end is None else "end"

    def within(self, budget: int) -> Continuation:
        """Truncate the continuation to a smaller budget, in tokens including the end token."""
        return self if len(self.ids) < budget else Continuation(self.ids[:budget], None)


def choose(logits_RV: torch.Tensor) -> tuple[list[int], list[bool]]:  # noqa: N803
    """Choose the most likely token of every row, and flag rows with a close second that rounding may have decided.

    In 16-bit formats no choice counts as close, since coarse rounding makes equal logits common.

    Args:
        logits_RV: (R, V). A row with a NaN or infinite maximum counts as close in any format, so that it is recomputed
            alone.
    """
    if logits_RV.dtype not in (torch.float32, torch.float64):
        best_R, tokens_R = logits_RV.float().max(-1)  # noqa: N806
        return tokens_R.tolist(), (~best_R.isfinite()).tolist()
    tokens_R, gap_R = _best(logits_RV)  # noqa: N806
    clear_R = (gap_R > MARGIN) & gap_R.isfinite()  # noqa: N806  # NaN and infinite gaps count as close
    if not bool(clear_R.all()):
        best_R, tokens_R = logits_RV.max(-1)  # noqa: N806  # the first of equal maxima
        clear_R = (gap_R > MARGIN) & best_R.isfinite()  # noqa: N806
    return tokens_R.tolist(), (~clear_R).tolist()


def greedily(logits_RV: torch.Tensor, places: Places) -> tuple[list[int], list[bool]]:  # noqa: N803
    """Choose the most likely token of every row, see :func:`choose`."""
    return choose(logits_RV)


def check_logits(best_R: torch.Tensor) -> None:  # noqa: N803
    """Check that a model's logits are finite.

    Args:
        best_R: The largest logit of every row; NaN if any logit of the row is NaN.

    Raises:
        NotFiniteError: One is NaN or infinite.
    """
    if not bool(best_R.isfinite().all()):
        raise NotFiniteError(NO_NUMBERS)


def _best(logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: N803
    """Return the index of every row's maximum, and its distance to the second largest value."""
    size = logits_RV.shape[-1]
    if size % BLOCK or size == BLOCK:
        best = logits_RV.topk(2, -1)
        return best.indices[:, 0], best.values[:, 0] - best.values[:, 1]
    # Finding a row's maximum is ten times faster than finding its index, so only one block is searched for it.
    blocks = logits_RV.unflatten(-1, (-1, BLOCK))
    outer = blocks.amax(-1).topk(2, -1)
    block_R = outer.indices[:, 0]  # noqa: N806
    inner = blocks[torch.arange(len(blocks), device=blocks.device), block_R].topk(2, -1)
    second = torch.maximum(outer.values[:, 1], inner.values[:, 1])
    return block_R * BLOCK + inner.indices[:, 0], inner.values[:, 0] - second


def new_cache(model: Model) -> Any:
    """Create an empty key-value cache for one batch of a model."""
    return model.new_cache() if isinstance(model, LogitsModel) else DynamicCache()


def decoder_of(model: Model) -> Model:
    """Return the model that is asked for next tokens: ``model``, or the :meth:`.LogitsModel.decoder` of one."""
    return model.decoder() if isinstance(model, LogitsModel) else model


class Batch:
    """Rows that are continued together; finished rows leave the batch and its cache.

    Tensors only live within ``__init__`` and ``advance``, both in inference mode: a generator that kept the mode across
    a ``yield`` would leave its caller in it.

    Args:
        model: As for :func:`~meow_lightning.generation.engine.continue_greedily`.
        prompts: Token ids, at least one per prompt.
        budgets: Maximum number of new tokens of each prompt, from 1.
        end_ids: Tokens that end a text.
        pad_id: Padding token.
        copies: Number of texts that continue each prompt, which is read once for all of them; more than one only with
            a single prompt.
        select: Chooses the next tokens.
        cached: Whether the model keeps keys and values; without, a single prompt's texts are read anew at every token.
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
        copies: int,
        select: Select,
        cached: bool,
    ) -> None:
        self._model, self._end_ids, self._select = model, end_ids, select
        self._budgets = [each for each in budgets for _ in range(copies)]
        self._generated: list[list[int]] = [[] for _ in self._budgets]
        self.rows = list(range(len(self._budgets)))  # index of the text in each row of the batch
        width = max(len(prompt) for prompt in prompts)
        padding = [width - len(prompt) for prompt in prompts]
        device = getattr(model, "device", None)
        self._ids_BT = torch.tensor(
            [[pad_id] * blank + list(prompt) for blank, prompt in zip(padding, prompts, strict=True)], device=device
        )
        self._attention_BT = torch.tensor([[0] * blank + [1] * (width - blank) for blank in padding], device=device)
        self._positions_BT = (self._attention_BT.cumsum(-1) - 1).clamp(min=0)
        self._cache = new_cache(model) if cached else None

    @torch.inference_mode()
    def advance(self) -> list[tuple[int, Continuation | None]]:
        """Generate one token per row; return finished rows, with ``None`` if the choice was close in a shared batch.

        Raises:
            NotFiniteError: The logits of a prompt processed alone are NaN or infinite. Any token would then count as an
                answer, and the fact as forgotten.
        """
        logits = self._model(
            input_ids=self._ids_BT,
            attention_mask=self._attention_BT,
            position_ids=self._positions_BT,
            past_key_values=self._cache,
            use_cache=self._cache is not None,
            logits_to_keep=1,
        ).logits[:, -1]
        if len(logits) < len(self.rows):  # the prompt was read once for all of its copies
            shared = torch.zeros(len(self.rows), dtype=torch.long, device=logits.device)
            logits = logits[shared]
            self._take(shared)
        tokens, close = self._select(logits, [(row, len(self._generated[row])) for row in self.rows])
        if any(close) and len(self._generated) == 1:
            check_logits(logits.amax(-1))
        finished: list[tuple[int, Continuation | None]] = []
        kept: list[int] = []
        for place, (row, token) in enumerate(zip(self.rows, tokens, strict=True)):
            generated = self._generated[row]
            if close[place] and len(self._generated) > 1:
                finished.append((row, None))
            elif token in self._end_ids:
                finished.append((row, Continuation(tuple(generated), token)))
            else:
                generated.append(token)
                if len(generated) == self._budgets[row]:
                    finished.append((row, Continuation(tuple(generated), None)))
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
            self._take(torch.tensor(kept, device=self._ids_BT.device))
        new_BT = torch.tensor(tokens, device=self._ids_BT.device)[:, None]  # noqa: N806
        self._attention_BT = torch.cat([self._attention_BT, torch.ones_like(new_BT)], dim=-1)
        positions_BT = self._positions_BT[:, -1:] + 1  # noqa: N806
        if self._cache is None:
            new_BT = torch.cat([self._ids_BT, new_BT], dim=-1)  # noqa: N806
            positions_BT = torch.cat([self._positions_BT, positions_BT], dim=-1)  # noqa: N806
        self._ids_BT, self._positions_BT = new_BT, positions_BT

    def _take(self, places: torch.Tensor) -> None:
        """Make the given rows, which may recur, the rows of the batch."""
        self._attention_BT, self._positions_BT = self._attention_BT[places], self._positions_BT[places]
        if self._cache is None:
            self._ids_BT = self._ids_BT[places]
        else:
            self._cache.batch_select_indices(places)


def continue_alone(
    model: Model, prompt: Sequence[int], *, budget: int, end_ids: frozenset[int], pad_id: int
) -> Continuation:
    """Continue a prompt on its own, without sharing forward passes; its text is the reference."""
    batch = Batch(
        model=model, prompts=[prompt], budgets=[budget], end_ids=end_ids, pad_id=pad_id, copies=1, select=greedily,
        cached=True,
    )  # fmt: skip
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
    """Yield every prompt with its continuation, ``None`` if rounding may have decided; ``slots`` rows per batch."""
    # Similar lengths waste little padding; the longest come first, so that running out of memory happens early.
    waiting = sorted(budgets, key=len, reverse=True)
    for start in range(0, len(waiting), slots):
        prompts = waiting[start : start + slots]
        batch = Batch(
            model=model, prompts=prompts, budgets=[budgets[each] for each in prompts], end_ids=end_ids, pad_id=pad_id,
            copies=1, select=greedily, cached=True,
        )  # fmt: skip
        while batch.rows:
            for row, continuation in batch.advance():
                yield prompts[row], continuation
