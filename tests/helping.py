"""What several test files build the same way."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from meow_lightning.memo.profile import Profile
from meow_lightning.training import Machine


def cpu(precision: str, micro: int, seconds: float) -> Machine:
    """One CPU, this many rows a pass, this many seconds between checkpoints."""
    return Machine(
        accelerator="cpu",
        devices=1,
        strategy="auto",
        precision=precision,
        micro_batch=micro,
        checkpoint_seconds=seconds,
    )


def clean_profile(max_new_tokens: int) -> Profile:
    """MEMO's profile ``clean`` with another budget."""
    return Profile(
        name="clean", mode="suffix", unit="characters", size=5, template=True, keep_special=False, rouge="rouge1",
        measure="precision", max_new_tokens=max_new_tokens, wordless="skip",
    )  # fmt: skip


class KillError(Exception):
    """What ends a run the hard way."""


class KillAfter(pl.Callback):
    """Ends a run the hard way after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        if trainer.global_step == self.step:
            raise KillError
