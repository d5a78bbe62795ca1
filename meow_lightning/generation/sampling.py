"""Sampling that is independent of the batch a text is generated in; callers import torch."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from meow_lightning.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TAIL = 1024  # number of most likely tokens to sample from


def sample_tokens(
    logits_BV: torch.Tensor,  # noqa: N803
    uniform_B: torch.Tensor,  # noqa: N803
    *,
    temperature: float,
    top_p: float,
) -> torch.Tensor:
    """Sample one token per row by inverting the cumulative distribution at a given number, (B,).

    With p = softmax(logits / temperature) in float32, the most likely tokens are kept until their p add up to ``top_p``
    (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration"), at most 1,024. Among these, in order of
    token id, the first is sampled at which the cumulative p exceeds ``uniform`` times the total. Unlike the order of p,
    that of ids is stable when rounding swaps two equally likely tokens.

    Args:
        logits_BV: (B, V).
        uniform_B: (B,), each in [0, 1).
        temperature: 0 or more; 0 for the most likely token.
        top_p: Above 0 to 1.
    """
    if temperature == 0:
        return logits_BV.argmax(-1)
    # Subtract the maximum first, so that a low temperature cannot overflow the logits.
    scaled_BV = (logits_BV.float() - logits_BV.amax(-1, keepdim=True).float()) / temperature  # noqa: N806
    likeliest = scaled_BV.topk(min(TAIL, scaled_BV.shape[-1]), -1)
    shares = (likeliest.values - scaled_BV.logsumexp(-1, keepdim=True)).exp().double()
    kept = shares * (shares.cumsum(-1) - shares < top_p)
    ids, order = likeliest.indices.sort(-1)
    sums = kept.gather(-1, order).cumsum(-1)
    passed = (sums <= uniform_B.double()[:, None] * sums[:, -1:]).sum(-1, keepdim=True)
    # With non-finite logits, none or all tokens may pass the comparison; the index must still be valid.
    return ids.gather(-1, passed.clamp(max=ids.shape[-1] - 1))[:, 0]


class Draws:
    """Logits processor that samples each row's next token with the row's own random numbers.

    Args:
        rng: Random generator of each row, used once per new token.
        width: Prompt length including padding.
        budget: Maximum number of new tokens, from 1.
        temperature: 0 or more.
        top_p: Above 0 to 1.

    Attributes:
        finite: One (B,) tensor per new token so far: whether each row's logits were finite.
    """

    def __init__(
        self, *, rng: Sequence[random.Random], width: int, budget: int, temperature: float, top_p: float
    ) -> None:
        import torch

        numbers = [[each.random() for _ in range(budget)] for each in rng]
        self._uniform_BT = torch.tensor(numbers, dtype=torch.float64)
        self._width, self._temperature, self._top_p = width, temperature, top_p
        self.finite: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores (B, V) that are 0 for each row's sampled token and minus infinity elsewhere."""
        self._uniform_BT = self._uniform_BT.to(scores.device)
        # On a GPU, generate checks one step late whether all rows have ended, and discards that step.
        step = min(input_ids.shape[-1] - self._width, self._uniform_BT.shape[-1] - 1)
        self.finite.append(scores.amax(-1).isfinite())
        ids = sample_tokens(scores, self._uniform_BT[:, step], temperature=self._temperature, top_p=self._top_p)
        return scores.new_full(scores.shape, float("-inf")).scatter(-1, ids[:, None], 0.0)


def sample_continuations(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    budget: int,
    rng: Sequence[random.Random],
    temperature: float,
    top_p: float,
    end_ids: frozenset[int],
    pad_id: int,
) -> list[list[int]]:
    """Sample a continuation of each prompt, up to and including its end token, or up to the budget.

    Runs one batch of transformers' ``generate`` with a cache. Only the given arguments apply; the caller resets the
    model's ``generation_config`` to transformers' defaults.

    Args:
        model: The model, in eval mode and on its device.
        prompts: Token ids, at least one each; padded on the left.
        budget: Maximum number of new tokens, from 1.
        rng: Random generator of each prompt, in order; consumed.
        temperature: 0 or more; 0 for the most likely token.
        top_p: Above 0 to 1: probability mass to sample from.
        end_ids: Tokens that end a text; may be empty.
        pad_id: Any token; it is masked.

    Raises:
        UserError: The logits of an unfinished text are not finite.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    width = max(map(len, prompts))
    padding = [width - len(prompt) for prompt in prompts]
    ids = [[pad_id] * blank + list(prompt) for blank, prompt in zip(padding, prompts, strict=True)]
    seen = [[0] * blank + [1] * (width - blank) for blank in padding]
    draws = Draws(rng=rng, width=width, budget=budget, temperature=temperature, top_p=top_p)
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=budget, use_cache=True, eos_token_id=sorted(end_ids) or None,
        pad_token_id=pad_id,
    )  # fmt: skip
    with torch.inference_mode():
        rows = model.generate(  # type: ignore[operator]
            torch.tensor(ids, device=model.device), attention_mask=torch.tensor(seen, device=model.device),
            generation_config=settings, logits_processor=LogitsProcessorList([draws]),
        )[:, width:].tolist()  # fmt: skip
    new = [_ended(row, end_ids) for row in rows]
    for row, finite in zip(new, torch.stack(draws.finite, -1).tolist(), strict=True):
        if not all(finite[: len(row)]):
            raise UserError(
                f"the model's logits are not finite in {str(model.dtype).removeprefix('torch.')}; "
                "set inversion.dtype=bfloat16 or inversion.dtype=float32"
            )
    return new


def _ended(ids: list[int], end_ids: frozenset[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in end_ids), len(ids))
    return ids[: end + 1]
