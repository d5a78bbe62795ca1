"""Allow-list of the options that may leave the machine although the dataset of a run is private."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PAGE = "report.html"  # the page of a report
SHAREABLE = "shareable.html"  # the page of a report on private data that may leave the machine
# Groups whose numbers, booleans and nulls are shared, at any depth; their texts are not.
NUMBERS = ("method", "optim", "memo", "evaluation", "trainer", "callbacks", "model.architecture", "model.pretrain",
           "model.finetune", "model.lora")  # fmt: skip
# Options shared with any plain value: none of them is free text, a path or a template.
OPTIONS = frozenset((
    "seed", "goal", "cache", "limit", "preflight",
    "dataset.name", "dataset.split", "dataset.real_world", "dataset.perturb", "dataset.retain_eval", "dataset.seed",
    "model.name", "model.precision", "model.attention", "model.max_new_tokens", "model.vocab_size",
    "model.seed", "model.lora.init",
    "method.name", "method.select.strategy", "method.select.rows", "method.rounds.requery", "method.rounds.cut_unit",
    "method.lora.init",
    "optim.name", "optim.optimizer", "optim.schedule", "optim.warmup", "optim.checkpoint",
    "inversion.name", "inversion.candidates", "inversion.temperature", "inversion.top_p", "inversion.max_new_tokens",
    "inversion.seed", "inversion.max_retries_per_fact", "inversion.on_shortage", "inversion.max_requests",
    "inversion.max_total_tokens",
    "memo.name", "memo.mode", "memo.cut_unit", "memo.rouge", "memo.rouge_stat", "memo.empty_windows",
    "evaluation.truth_ratio_mean", "evaluation.protocol",
    "trainer.name", "trainer.accelerator", "trainer.strategy",
    "logger.name", "logger.mode",
))  # fmt: skip


def shareable(options: Mapping[str, Any]) -> dict[str, Any]:
    """Select the options that reveal nothing about private data and the machine, nested as given.

    Args:
        options: Resolved options of a run, or some of them.
    """
    return _shared(options, path="")


def _shared(options: Mapping[str, Any], *, path: str) -> dict[str, Any]:
    selected: dict[str, Any] = {}
    for name, value in options.items():
        option = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            if inner := _shared(value, path=option):
                selected[name] = inner
        elif option in OPTIONS or (option.startswith(tuple(f"{group}." for group in NUMBERS)) and _numbers(value)):
            selected[name] = value
    return selected


def _numbers(value: Any) -> bool:
    """Whether a value is a number, a boolean, null, or a list of such."""
    if isinstance(value, list | tuple):
        return all(map(_numbers, value))
    return value is None or isinstance(value, bool | int | float)
