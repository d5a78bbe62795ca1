"""Which of a cell's options may leave the machine where its dataset is not public: a whitelist, all else stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHAREABLE = "shareable.html"  # in a report's folder, where the dataset is not public: the page that may leave
# Groups of which every number, truth value and null goes, at any depth; their texts stay.
NUMBERS = ("method", "optim", "memo", "evaluation", "trainer", "callbacks", "model.architecture", "model.pretrain",
           "model.finetune", "model.lora")  # fmt: skip
# Options that go whatever plain value they have: none of them is free text, a path or a template.
OPTIONS = frozenset((
    "seed", "goal", "cache", "limit", "preflight",
    "dataset.name", "dataset.split", "dataset.real_world", "dataset.perturb", "dataset.retain_eval", "dataset.seed",
    "model.name", "model.dtype", "model.precision", "model.attention", "model.max_new_tokens", "model.vocab_size",
    "model.seed",
    "method.name", "method.select.strategy", "method.select.rows", "method.rounds.requery", "method.rounds.cut_unit",
    "optim.name", "optim.kind", "optim.schedule", "optim.warmup", "optim.stop",
    "inversion.name", "inversion.candidates", "inversion.temperature", "inversion.top_p", "inversion.reply_tokens",
    "inversion.seed", "inversion.again", "inversion.short", "inversion.calls", "inversion.tokens",
    "memo.name", "memo.mode", "memo.unit", "memo.rouge", "memo.measure", "memo.wordless",
    "evaluation.truth_ratio_mean", "evaluation.compat",
    "trainer.name", "trainer.accelerator", "trainer.strategy",
    "logger.name", "logger.mode",
))  # fmt: skip


def shareable(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, nested as they are, that say nothing of private data and of the machine they lie on.

    Args:
        options: Resolved options of a cell, or some of them.
    """
    return _kept(options, path="")


def _kept(options: Mapping[str, Any], *, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in options.items():
        here = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            if inner := _kept(value, path=here):
                found[name] = inner
        elif here in OPTIONS or (here.startswith(tuple(f"{group}." for group in NUMBERS)) and _numbers(value)):
            found[name] = value
    return found


def _numbers(value: Any) -> bool:
    """Whether a value is a number, a truth value, null, or a list of such."""
    if isinstance(value, list | tuple):
        return all(map(_numbers, value))
    return value is None or isinstance(value, bool | int | float)
