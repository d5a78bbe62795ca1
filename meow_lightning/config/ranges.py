"""The valid range of every numeric option, in one table, and the check of a run's options against it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from meow_lightning.errors import invalid_option


class Range(NamedTuple):
    """An interval of finite numbers, with both ends included by default.

    Attributes:
        low: Lower end.
        high: Upper end; for a number without a natural limit, far above any useful value.
        above: Whether the lower end itself is excluded.
        below: Whether the upper end itself is excluded.
        zero: Whether 0 is allowed in addition.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False
    zero: bool = False


MANY = 10**9  # above every useful count of rows, steps, tokens or seconds
LARGEST = 3e38  # about the largest float32, the format that most numbers are used in
FINITE = Range(-LARGEST, LARGEST)  # for options outside the table, such as those of a user's own method
SEED = Range(0, 2**31 - 1)  # numpy accepts at most 32 bits, and further seeds are derived by adding to this one
COUNT, COUNT_OR_NONE = Range(1, MANY), Range(0, MANY)
POSITIVE, NOT_NEGATIVE = Range(0, 1e6, above=True), Range(0, 1e6)

# Optimizer settings of every training. In float32 a smaller eps acts like 0 and leads to 0/0.
_TRAINING = {
    "lr": Range(0, 1), "epochs": Range(0, 10**6), "global_batch_size": COUNT,
    "betas": Range(0, 1, above=True, below=True), "eps": Range(1e-30, 1), "weight_decay": Range(0, 100),
    "max_grad_norm": NOT_NEGATIVE, "warmup": COUNT_OR_NONE,
}  # fmt: skip

# By dotted option. The range of a list or of a table per model applies to each entry. For a method, an entry with its
# class name, such as `Dpo.beta`, takes precedence.
RANGES: dict[str, Range] = {
    "seed": SEED, "dataset.seed": SEED, "model.seed": SEED, "inversion.seed": SEED, "limit": COUNT,
    **{f"{group}.{name}": allowed for group in ("optim", "model.pretrain", "model.finetune")
       for name, allowed in _TRAINING.items()},
    "optim.batch_tokens": COUNT, "model.pretrain.rows": COUNT, "model.finetune.replay": COUNT_OR_NONE,
    "model.finetune.steps": COUNT_OR_NONE, "model.finetune.epoch_steps": COUNT,
    "model.finetune.known": Range(0, 100),
    "dataset.perturb": COUNT_OR_NONE, "dataset.retain_eval": COUNT,
    "model.max_new_tokens": COUNT, "model.vocab_size": Range(300, 10**7),
    "model.architecture.hidden_size": Range(2, 10**6), "model.architecture.layers": Range(1, 10**4),
    "model.architecture.heads": Range(1, 10**5), "model.architecture.intermediate_size": Range(1, 10**7),
    "model.architecture.context": Range(8, MANY),
    "model.lora.rank": Range(1, 10**5), "model.lora.alpha": POSITIVE,
    **{f"method.{name}": _TRAINING[name] for name in ("lr", "epochs", "global_batch_size")},
    "method.beta": NOT_NEGATIVE, "method.retain_weight": NOT_NEGATIVE, "method.forget_weight": POSITIVE,
    "method.beta1": Range(0, 1000), "method.beta2": Range(0, 1000), "method.mu0": NOT_NEGATIVE,
    "method.eta": NOT_NEGATIVE, "method.eps": NOT_NEGATIVE, "method.delta": Range(-1000, 1000),
    "method.steering": POSITIVE, "method.layer": Range(0, 10**4), "method.alpha": Range(0, 1000),
    **{f"{name}.beta": POSITIVE for name in ("Dpo", "DpoGd", "DpoKl", "Npo", "NpoGd", "NpoKl", "AltPo", "SimNpo")},
    "method.select.k": COUNT, "method.rounds.count": Range(1, 1000),
    "method.rounds.memorized_above": Range(0, 1, below=True), "method.rounds.candidates": COUNT,
    "method.rounds.k": COUNT, "method.rounds.max_requests": COUNT,
    "inversion.candidates": COUNT, "inversion.max_retries_per_fact": Range(0, 1000), "inversion.prompt.version": COUNT,
    "inversion.temperature": Range(1e-3, 100, zero=True), "inversion.top_p": Range(0, 1, above=True),
    "inversion.max_new_tokens": COUNT, "inversion.concurrency": Range(1, 10**4), "inversion.requests_per_minute": COUNT,
    "inversion.timeout": Range(0, 10**6, above=True), "inversion.retries": Range(0, 1000),
    "inversion.deadline": Range(0, 10**6, above=True), "inversion.reply_bytes": COUNT,
    "inversion.max_requests": Range(1, 10**12), "inversion.max_total_tokens": Range(1, 10**15),
    "memo.stride": COUNT, "memo.n": COUNT, "memo.max_new_tokens": COUNT, "memo.verify": COUNT_OR_NONE,
    "evaluation.max_new_tokens": COUNT, "evaluation.selection_fraction": Range(0, 1, below=True),
    "evaluation.bootstrap_samples": Range(1, 10**7), "evaluation.confidence_level": Range(0, 1, above=True, below=True),
    "ability.limit": COUNT, "ability.num_fewshot": Range(0, 1000),
    "trainer.devices": Range(1, 10**5), "trainer.nodes": Range(1, 10**5), "trainer.parallel_stages": Range(1, 10**4),
    "trainer.threads": Range(1, 10**4), "trainer.micro_batch_size": COUNT, "trainer.micro_batch_tokens": COUNT,
    "trainer.eval_batch_size": COUNT, "trainer.generation_batch_size": COUNT,
    "callbacks.log_every": COUNT, "callbacks.checkpoint_seconds": Range(0, MANY),
    "callbacks.memo_every_epochs": COUNT_OR_NONE, "callbacks.memo_every_steps": COUNT_OR_NONE,
    "callbacks.memo_facts": COUNT_OR_NONE, "callbacks.evaluate_every_epochs": COUNT_OR_NONE,
}  # fmt: skip


def check_ranges(options: Mapping[str, Any]) -> None:
    """Check that every number in the resolved options is within its range.

    Raises:
        UserError: A number is outside its range; the message names the option and the range.
    """
    method = options.get("method")
    kind = str(method.get("_target_")).rpartition(".")[2] if isinstance(method, Mapping) else ""
    # Check `seed` before the groups that interpolate it, so that the message names `seed`.
    ordered = dict(sorted(options.items(), key=lambda item: isinstance(item[1], Mapping)))
    for path, given, value in _numbers(ordered, ""):
        allowed = range_of(path, kind)
        if not _contains(allowed, value):
            raise invalid_option(path, given, _expected(allowed, entry=value if isinstance(given, list) else None))
        if path.endswith(".warmup") and value > 1 and value != int(value):
            raise invalid_option(path, given, "an integer number of steps, or a fraction of all steps below 1")
    _check_width(options.get("model"))


def range_of(path: str, kind: str) -> Range:
    """Look up the range of a numeric option.

    Args:
        path: The dotted option.
        kind: Class name of the run's method.
    """
    group, _, name = path.partition(".")
    parent = path.rpartition(".")[0]
    candidates = [*[f"{kind}.{name}"][: group == "method"], path, parent]
    if group == "attacks":  # attacks.<condition>.<option>: the recipe of an attack that trains
        candidates += [f"optim.{each}" for each in name.split(".")[1:2]]
    return next((RANGES[option] for option in candidates if option in RANGES), FINITE)


def _numbers(node: Any, path: str) -> Iterator[tuple[str, Any, float]]:
    """Yield the dotted option, its value (a number or a list) and the number itself, for every number below a node."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _numbers(value, f"{path}.{key}".lstrip("."))
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for value in node:
            if _is_number(value):
                yield path, list(node), value
    elif _is_number(node):
        yield path, node, node


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _contains(allowed: Range, value: float) -> bool:
    if not math.isfinite(value):
        return False
    above = value > allowed.low if allowed.above else value >= allowed.low
    below = value < allowed.high if allowed.below else value <= allowed.high
    return (above and below) or (allowed.zero and value == 0)


def _expected(allowed: Range, *, entry: float | None) -> str:
    """Describe the numbers of a range; for a list, name its first entry outside the range."""
    if allowed is FINITE:
        return "a finite number" if entry is None else f"finite numbers, not {entry}"
    low, high = (f"{end:g}" if isinstance(end, float) else f"{end:,}" for end in (allowed.low, allowed.high))
    if not allowed.above and not allowed.below:
        interval = f"from {low} to {high}"
    else:
        least = f"above {low}" if allowed.above else f"of at least {low}"
        interval = f"{least} and {'below' if allowed.below else 'at most'} {high}"
    interval = f"{interval}, or 0" if allowed.zero else interval
    return f"a number {interval}" if entry is None else f"numbers {interval}, not {entry}"


def _check_width(model: Any) -> None:
    """Check that the width of a model trained from scratch can be split over its heads.

    Raises:
        UserError: The width is not a multiple of twice the number of heads.
    """
    sizes = model.get("architecture") if isinstance(model, Mapping) else None
    if not isinstance(sizes, Mapping) or sizes.get("_target_") != "meow_lightning.models.tiny.llama":
        return  # another function may interpret its sizes differently
    width, heads = sizes["hidden_size"], sizes["heads"]
    if width % (2 * heads):
        expected = f"a multiple of {2 * heads} (twice model.architecture.heads={heads})"
        nearest = max(1, round(width / (2 * heads))) * 2 * heads
        raise invalid_option("model.architecture.hidden_size", width, expected, did_you_mean=nearest)
