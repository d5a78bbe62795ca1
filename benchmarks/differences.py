"""Why two continuations of a prompt differ: the logits at the first token that is another."""

from __future__ import annotations

from typing import Any

import torch

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.generation.engine import Continuation


def explain(model: Any, codec: PromptEncoder, prompt: list[int], plain: Continuation, other: Continuation) -> str:
    """Name the first token at which two continuations differ, and how close the two were there.

    Args:
        model: The model, in any format; it reads the prompt alone.
        codec: Its codec.
        prompt: The prompt's tokens.
        plain: What the reference says.
        other: What another way says; unlike ``plain``.
    """
    ours, theirs = tokens_of(plain), tokens_of(other)
    at = next((at for at, (one, two) in enumerate(zip(ours, theirs, strict=False)) if one != two), None)
    if at is None:
        return (
            f"one text ends after {min(len(ours), len(theirs))} tokens, the other after {max(len(ours), len(theirs))}"
        )
    ids = torch.tensor([[*prompt, *ours[:at]]], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, -1].float()
    words = [codec.decode([token], keep_special=True) for token in (ours[at], theirs[at])]
    gap = (logits[ours[at]] - logits[theirs[at]]).item()
    rank = int((logits > logits[theirs[at]]).sum()) + 1
    return f"token {at + 1}: {words[0]!r}, not {words[1]!r}, whose logit is {gap:.2g} lower (number {rank} of all)"


def tokens_of(said: Continuation) -> list[int]:
    """The tokens of a continuation, its end token among them."""
    return [*said.ids, *([] if said.end is None else [said.end])]
