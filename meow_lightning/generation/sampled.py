"""Several sampled continuations of one prompt, the same for any batch size; callers import torch."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from meow_lightning.distributed import release_memory
from meow_lightning.generation.batch_size import AdaptiveBatchSize
from meow_lightning.generation.batching import Batch, Continuation, Model, Places, decoder_of
from meow_lightning.generation.capabilities import batch_length_limit, supports_padding
from meow_lightning.generation.sampling import MARGIN, sample_with_gap


class Sampling(NamedTuple):
    """How tokens are sampled.

    Attributes:
        temperature: Above 0.
        top_k: Number of most likely tokens to sample from, from 1.
        top_p: Probability mass to sample from, above 0 to 1.
    """

    temperature: float
    top_k: int
    top_p: float


@dataclass(frozen=True, slots=True)
class _Draws:
    """Choice of the next tokens by random numbers of each text's own, one per token, (texts, tokens)."""

    uniform: torch.Tensor
    sampling: Sampling

    def __call__(self, logits_RV: torch.Tensor, places: Places) -> tuple[list[int], list[bool]]:  # noqa: N803
        texts, steps = zip(*places, strict=True)
        uniform_R = self.uniform[list(texts), list(steps)].to(logits_RV.device)  # noqa: N806
        tokens_R, gap_R = sample_with_gap(logits_RV, uniform_R, **self.sampling._asdict())  # noqa: N806
        finite_R = logits_RV.amax(-1).isfinite()  # noqa: N806
        exact = logits_RV.dtype in (torch.float32, torch.float64)  # as for a greedy choice
        close_R = ~finite_R | (gap_R <= MARGIN) if exact else ~finite_R  # noqa: N806
        return tokens_R.tolist(), close_R.tolist()


class Sampler:
    """Sampler of several continuations of one prompt.

    The prompt is read once, and its texts are continued together. Text i takes its random numbers from
    ``random.Random(seeds[i])`` alone, so it does not depend on the others. Rounding depends on how many texts share a
    batch: a text of an fp32 model is computed again alone if the choice of a token was closer than that, so the batch
    size changes no text. A model in 16 bits may give other texts if memory runs out or ``slots`` is smaller than the
    number of texts.

    Args:
        model: As for :func:`~meow_lightning.generation.engine.continue_greedily`.
        sampling: How tokens are sampled.
        end_ids: Tokens that end a text; may be empty.
        pad_id: Any token; it is masked.
        slots: Maximum number of texts per batch.
    """

    def __init__(
        self, model: Model, *, sampling: Sampling, end_ids: frozenset[int], pad_id: int, slots: AdaptiveBatchSize
    ) -> None:
        self._model, self._sampling, self._slots = model, sampling, slots
        self._end_ids, self._pad_id = end_ids, pad_id
        self._cached: bool | None = None

    def sample(self, prompt: Sequence[int], *, seeds: Sequence[str], budget: int) -> list[Continuation]:
        """Sample one continuation per seed.

        Args:
            prompt: Token ids, at least one.
            seeds: Seed of each text.
            budget: Maximum number of new tokens, including the end token; from 0.

        Raises:
            NotFiniteError: The logits are NaN or infinite.
        """
        if not budget:
            return [Continuation((), None) for _ in seeds]
        found: dict[int, Continuation] = {}
        waiting = list(range(len(seeds)))
        close: list[int] = []
        while waiting:
            part = waiting[: self._slots.slots]
            try:
                new = self._together(prompt, [seeds[place] for place in part], budget)
            except (RuntimeError, MemoryError) as error:
                self._slots.halve(error)
                new = None
            if new is None:  # outside the handler, where the error no longer references the failed tensors
                release_memory()
                continue
            close += [place for place, text in zip(part, new, strict=True) if text is None]
            found |= {place: text for place, text in zip(part, new, strict=True) if text is not None}
            waiting = waiting[len(part) :]
        for place in close:
            (text,) = self._together(prompt, [seeds[place]], budget)
            if text is None:  # a batch of one text never leaves a choice open
                raise RuntimeError("a text that was sampled alone has no continuation")
            found[place] = text
        return [found[place] for place in range(len(seeds))]

    def _together(self, prompt: Sequence[int], seeds: Sequence[str], budget: int) -> list[Continuation | None]:
        """Sample texts in one batch; ``None`` where rounding may have decided."""
        numbers = [[each.random() for _ in range(budget)] for each in map(random.Random, seeds)]
        draws = _Draws(torch.tensor(numbers, dtype=torch.float64), self._sampling)
        batch = Batch(
            model=decoder_of(self._model), prompts=[prompt], budgets=[budget], end_ids=self._end_ids,
            pad_id=self._pad_id, copies=len(seeds), select=draws, cached=self._caches(prompt, budget),
        )  # fmt: skip
        texts: list[Continuation | None] = [None] * len(seeds)
        while batch.rows:
            for row, text in batch.advance():
                texts[row] = text
        return texts

    def _caches(self, prompt: Sequence[int], budget: int) -> bool:
        """Whether cached keys and values leave the model's logits unchanged, also where a text grows long."""
        border = batch_length_limit(self._model)
        if border is not None and len(prompt) + budget > border:
            return False
        if self._cached is None:
            self._cached = supports_padding(self._model, prompt, pad_id=self._pad_id)
        return self._cached
