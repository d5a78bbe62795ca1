"""Reference implementation: one prompt at a time through transformers' ``generate``; the engine must match its text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel

from meow_lightning.generation.batching import Continuation, check_logits
from meow_lightning.models.logits_model import LogitsModel


@torch.inference_mode()
def reference_continuation(
    model: PreTrainedModel | LogitsModel,
    prompt: Sequence[int],
    *,
    budget: int,
    end_ids: frozenset[int],
    pad_id: int,
    watch: Callable[[list[int]], None] | None = None,
) -> Continuation:
    """Continue one prompt greedily, using only transformers' own code.

    Args:
        model: Any causal language model of transformers, or a :class:`.LogitsModel`, in eval mode. Its generation
            settings (penalties, sampling) are ignored: MEMO needs the most likely token.
        prompt: Token ids, at least one.
        budget: Maximum number of new tokens, including the end token; from 1.
        end_ids: Tokens that end a text; may be empty.
        pad_id: Any token; unused for a single prompt.
        watch: Called before every new token with those generated so far.

    Raises:
        NotFiniteError: The logits are NaN or infinite.
    """

    def checked(tokens: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        check_logits(scores.amax(-1))
        if watch is not None:
            watch(tokens[0, len(prompt) :].tolist())
        return scores

    ids = torch.tensor([list(prompt)], device=model.device)
    kept, model.generation_config = model.generation_config, GenerationConfig()
    try:
        new = model.generate(  # type: ignore[operator]
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=budget,
            eos_token_id=sorted(end_ids) or None, pad_token_id=pad_id, logits_processor=LogitsProcessorList([checked]),
        )[0, len(prompt) :].tolist()  # fmt: skip
    finally:
        model.generation_config = kept
    return Continuation(tuple(new[:-1]), new[-1]) if new[-1] in end_ids else Continuation(tuple(new), None)
