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
MARGIN = 1e-5  # cumulative probability that a different summation order of fp32 logits may move


def sample_tokens(
    logits_BV: torch.Tensor,  # noqa: N803
    uniform_B: torch.Tensor,  # noqa: N803
    *,
    temperature: float,
    top_p: float,
    top_k: int = TAIL,
) -> torch.Tensor:
    """Sample one token per row by inverting the cumulative distribution at a given number, (B,).

    With p = softmax(logits / temperature) in float32, the most likely tokens are kept until their p add up to ``top_p``
    (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration"), at most ``top_k``. Among these, in order of
    token id, the first is sampled at which the cumulative p exceeds ``uniform`` times the total. Unlike the order of p,
    that of ids is stable when rounding swaps two equally likely tokens.

    Args:
        logits_BV: (B, V).
        uniform_B: (B,), each in [0, 1).
        temperature: 0 or more; 0 for the most likely token.
        top_p: Above 0 to 1.
        top_k: Number of most likely tokens, from 1.
    """
    if temperature == 0:
        return logits_BV.argmax(-1)
    return sample_with_gap(logits_BV, uniform_B, temperature=temperature, top_p=top_p, top_k=top_k)[0]


def sample_with_gap(
    logits_BV: torch.Tensor,  # noqa: N803
    uniform_B: torch.Tensor,  # noqa: N803
    *,
    temperature: float,
    top_p: float,
    top_k: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample as :func:`sample_tokens` does above temperature 0, and measure how far rounding is from another token.

    Args:
        logits_BV: (B, V).
        uniform_B: (B,), each in [0, 1).
        temperature: Above 0.
        top_p: Above 0 to 1.
        top_k: Number of most likely tokens, from 1.

    Returns:
        The tokens, (B,), and the gap, (B,): the least cumulative probability that must move for another token. That is
        the distance from ``uniform`` to the nearer end of the token's share; or the distance at which ``top_p`` or
        ``top_k`` would cut elsewhere, where a moved cut could reach the token. NaN where the logits are not finite.
    """
    import torch

    # Subtract the maximum first, so that a low temperature cannot overflow the logits.
    scaled_BV = (logits_BV.float() - logits_BV.amax(-1, keepdim=True).float()) / temperature  # noqa: N806
    most = min(top_k, scaled_BV.shape[-1])
    likeliest = scaled_BV.topk(min(most + (top_k < TAIL), scaled_BV.shape[-1]), -1)
    shares = (likeliest.values - scaled_BV.logsumexp(-1, keepdim=True)).exp().double()
    dropped, shares = shares[:, most:], shares[:, :most]  # the first token that top_k drops, and those that it keeps
    before = shares.cumsum(-1) - shares
    kept = shares * (before < top_p)
    ids, order = likeliest.indices[:, :most].sort(-1)
    sums = kept.gather(-1, order).cumsum(-1)
    target = uniform_B.double()[:, None] * sums[:, -1:]
    passed = (sums <= target).sum(-1, keepdim=True)
    # With non-finite logits, none or all tokens may pass the comparison; the index must still be valid.
    tokens = ids.gather(-1, passed.clamp(max=ids.shape[-1] - 1))[:, 0]
    gap = (sums - target).abs().amin(-1)
    # A token more or less moves the sums by its share, and the target by no more.
    if top_p < 1:
        gap = torch.minimum(gap, torch.maximum((before - top_p).abs(), gap[:, None] - 2 * shares).amin(-1))
    if dropped.shape[-1]:
        last = shares[:, -1]
        gap = torch.minimum(gap, torch.maximum((last - dropped[:, 0]).abs(), gap - 2 * last))
    return tokens, gap


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
