"""MAUVE (Pillutla et al. 2021) on features of a given model, by the authors' package mauve-text."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.errors import UserError

Features = NDArray[np.float32]
LEAST = 2  # texts per side: k-means has at least two clusters


@torch.inference_mode()
def last_states(model: Any, encoder: PromptEncoder, texts: Sequence[str]) -> Features:
    """Compute the features of texts as MAUVE does: the last layer's hidden state at the last token, (texts, d).

    One text at a time, so that no batch changes a bit; equal texts once. An empty text is the begin or end token alone,
    a text longer than the context loses its end.

    Args:
        model: A causal language model in evaluation mode.
        encoder: Its tokens.
        texts: The texts.

    Raises:
        UserError: The model answers through its method and has no hidden states of its own.
    """
    if not isinstance(model, PreTrainedModel):
        raise UserError(
            f"features for MAUVE need a plain model, and {type(model).__name__} has no hidden states of its own: set "
            "the task's features to a folder of another model, or to null to leave MAUVE out"
        )
    begin = encoder.tokenizer.bos_token_id
    alone = [int(encoder.tokenizer.eos_token_id if begin is None else begin)]
    found: dict[str, Features] = {}
    for text in dict.fromkeys(texts):
        ids = (encoder.encode_plain(text) or alone)[: encoder.context]
        states = model(input_ids=torch.tensor([ids], device=model.device), output_hidden_states=True).hidden_states
        found[text] = states[-1][0, -1].float().cpu().numpy()
    return np.stack([found[text] for text in texts])


def mauve(human: Features, model: Features, *, scaling_factor: float) -> float:
    """Compute MAUVE of a model's texts against human ones, 0 to 1.

    The package quantises both sets of features together into round(n / 10) clusters, at least 2, and integrates the
    divergence curve of the two histograms. All other settings, its seed included, are its own defaults. Of two equal
    histograms, as few passages often have, the area is 1 by definition; mauve-text 0.4.0 orders the points of that
    curve arbitrarily and gives .75, which does not count.

    Args:
        human: Features of the human texts, (n, d); n at least ``LEAST``.
        model: Features of the model's texts, (n, d).
        scaling_factor: c in exp(-c KL), above 0; 5 in the paper.
    """
    with _quiet_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # equal features have no variance to explain
        from mauve import compute_mauve

        found = compute_mauve(p_features=human, q_features=model, mauve_scaling_factor=scaling_factor, verbose=False)
    return 1.0 if np.array_equal(found.p_hist, found.q_hist) else float(found.mauve)


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Silence the process's stderr: faiss warns there, below Python, that a cluster has fewer than 39 points."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
