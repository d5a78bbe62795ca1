"""Drawing tokens so that a text does not depend on what is written beside it; torch is imported by who calls it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from meow_lightning.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TAIL = 1024  # tokens of the vocabulary, the likeliest first, that can be drawn at all


def sample_tokens(
    logits_BV: torch.Tensor,  # noqa: N803
    uniform_B: torch.Tensor,  # noqa: N803
    *,
    temperature: float,
    top_p: float,
) -> torch.Tensor:
    """One token per row, (B,): the inverse of the distribution function at a given number.

    With p = softmax(logits / temperature) in float32, the likeliest tokens are kept until their p add up to ``top_p``
    (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration"), 1,024 at most. Of these the first one in the
    order of token ids is drawn at which the running sum of p exceeds ``uniform`` times the sum over all of them. The
    order of ids, unlike that of p, stays when rounding swaps two tokens that are equally likely.

    Args:
        logits_BV: (B, V).
        uniform_B: (B,), each from 0 to below 1.
        temperature: 0 or more; 0 is the likeliest token.
        top_p: Above 0 to 1.
    """
    if temperature == 0:
        return logits_BV.argmax(-1)
    # The largest becomes 0 first, so that no temperature, however low, makes it infinite.
    scaled_BV = (logits_BV.float() - logits_BV.amax(-1, keepdim=True).float()) / temperature  # noqa: N806
    likeliest = scaled_BV.topk(min(TAIL, scaled_BV.shape[-1]), -1)
    shares = (likeliest.values - scaled_BV.logsumexp(-1, keepdim=True)).exp().double()
    kept = shares * (shares.cumsum(-1) - shares < top_p)
    ids, order = likeliest.indices.sort(-1)
    sums = kept.gather(-1, order).cumsum(-1)
    passed = (sums <= uniform_B.double()[:, None] * sums[:, -1:]).sum(-1, keepdim=True)
    # Logits that are no numbers pass none or all; the index must stay one all the same.
    return ids.gather(-1, passed.clamp(max=ids.shape[-1] - 1))[:, 0]


class Draws:
    """A logits processor that leaves every row the one token that its own random numbers draw.

    Args:
        dice: Where each row draws its numbers from, one per new token.
        width: Tokens of the prompts, padding included: what stands before the first new token.
        budget: Most new tokens, from 1.
        temperature: 0 or more.
        top_p: Above 0 to 1.

    Attributes:
        sound: (B,) for every new token so far: whether the row's logits were numbers.
    """

    def __init__(
        self, *, dice: Sequence[random.Random], width: int, budget: int, temperature: float, top_p: float
    ) -> None:
        import torch

        numbers = [[each.random() for _ in range(budget)] for each in dice]
        self._uniform_BT = torch.tensor(numbers, dtype=torch.float64)
        self._width, self._temperature, self._top_p = width, temperature, top_p
        self.sound: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (B, V) of which each row has 0 for the token that is drawn and minus infinity for all others."""
        self._uniform_BT = self._uniform_BT.to(scores.device)
        # On a GPU generate looks one step behind whether all have ended, and throws that step away.
        step = min(input_ids.shape[-1] - self._width, self._uniform_BT.shape[-1] - 1)
        self.sound.append(scores.amax(-1).isfinite())
        ids = sample_tokens(scores, self._uniform_BT[:, step], temperature=self._temperature, top_p=self._top_p)
        return scores.new_full(scores.shape, float("-inf")).scatter(-1, ids[:, None], 0.0)


def sample_continuations(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    budget: int,
    dice: Sequence[random.Random],
    temperature: float,
    top_p: float,
    end_ids: frozenset[int],
    pad_id: int,
) -> list[list[int]]:
    """The new tokens after each prompt, up to its end token, which is included, or to the budget.

    One batch of transformers' ``generate`` with a cache. Only what is given here acts, and what the model's
    ``generation_config`` says beyond transformers' own defaults: the caller clears that.

    Args:
        model: In eval mode, on its device.
        prompts: Token ids, at least one each; they are padded on the left.
        budget: Most new tokens, from 1.
        dice: The random numbers of each prompt, in their order; used up.
        temperature: 0 or more; 0 takes the likeliest token.
        top_p: Above 0 to 1: share of the probability that is drawn from.
        end_ids: Tokens that end a text; may be empty.
        pad_id: Any token; it is masked.

    Raises:
        UserError: The model gives something else than numbers before a text has ended.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    width = max(map(len, prompts))
    padding = [width - len(prompt) for prompt in prompts]
    ids = [[pad_id] * blank + list(prompt) for blank, prompt in zip(padding, prompts, strict=True)]
    seen = [[0] * blank + [1] * (width - blank) for blank in padding]
    draws = Draws(dice=dice, width=width, budget=budget, temperature=temperature, top_p=top_p)
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
    for row, sound in zip(new, torch.stack(draws.sound, -1).tolist(), strict=True):
        if not all(sound[: len(row)]):
            raise UserError(
                f"the model's logits are no numbers in {str(model.dtype).removeprefix('torch.')}; "
                "set inversion.dtype=bfloat16 or inversion.dtype=float32"
            )
    return new


def _ended(ids: list[int], end_ids: frozenset[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in end_ids), len(ids))
    return ids[: end + 1]
