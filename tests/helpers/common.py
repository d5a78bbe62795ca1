"""Builders shared by several test files."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytorch_lightning as pl

from meow_lightning.config.runtime import Runtime
from meow_lightning.evaluation.__main__ import main
from meow_lightning.memo.memo import Profile
from meow_lightning.store.artifact import Artifact
from meow_lightning.training.fit import TrainerSettings


def cpu(precision: str, micro: int, seconds: float, *, tokens: int | None = None) -> TrainerSettings:
    """Build trainer settings for one CPU, with rows (or padded tokens) per pass and seconds between checkpoints."""
    return TrainerSettings(
        accelerator="cpu",
        devices=1,
        nodes=1,
        strategy="auto",
        precision=precision,
        micro_batch_size=micro,
        micro_batch_tokens=tokens,
        checkpoint_seconds=seconds,
    )


def clean_profile(max_new_tokens: int) -> Profile:
    """Build MEMO's profile ``clean`` with a different token budget."""
    return Profile(
        name="clean", mode="suffix", cut_unit="characters", stride=5, template=True, keep_special=False, rouge="rouge1",
        rouge_stat="precision", max_new_tokens=max_new_tokens, empty_windows="skip",
        words="unicode",
    )  # fmt: skip


class KillError(Exception):
    """Raised to kill a training."""


class KillAfter(pl.Callback):
    """Kills a training after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *unused: Any) -> None:
        if trainer.global_step == self.step:
            raise KillError


def runtime(**changes: Any) -> Runtime:
    """Build runtime settings for tests: one CPU, two rows at a time, with the given changes."""
    plain: dict[str, Any] = {
        "accelerator": "cpu", "devices": 1, "nodes": 1, "strategy": "auto", "micro_batch_size": 2,
        "micro_batch_tokens": None, "gradient_checkpointing": False, "eval_batch_size": 2,
        "generation_batch_size": None, "checkpoint_seconds": 1.0, "log_every": 1,
        "memo_every_epochs": 0, "memo_every_steps": 0, "memo_facts": 0,
        "evaluate_every_epochs": 0,
    }  # fmt: skip
    return Runtime(**plain | changes)


def told(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """Run ``python -m meow_lightning.evaluation`` and return its JSON, its only output."""
    assert main([str(word) for word in words]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def failure(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run the same command with invalid arguments and return its error line."""
    assert main([str(word) for word in words]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def artifact(stage: str, label: str, *needs: Artifact) -> Artifact:
    """Build an artifact without content that needs others."""
    return Artifact(
        stage=stage, label=label, version=1, settings={"label": label}, needs={need.label: need for need in needs},
        inputs={},
    )  # fmt: skip
