"""What published evaluators do otherwise than we: which prompts and rows, which batches, how many tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.evaluation.protocols import prompts
from meow_lightning.types import Encoded

Name = Literal["none", "tofu", "open_unlearning"]
"""Whose evaluation is computed: ours, that of locuslab/tofu, that of locuslab/open-unlearning."""

NAMES: tuple[Name, ...] = get_args(Name)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compat:
    """One published evaluator.

    Attributes:
        whose: The code base.
        prompt: The tokens that it lets a model continue, of a codec and a question.
        row: What it scores, of a codec, a question and an answer.
        rows: First rows of a set that count; ``None`` for all.
        batch: Prompts generated together, in the order of the set.
        total: Tokens of the longest prompt of a batch and of what is generated, together; ``None``: no such limit.
        new: Tokens generated at most; ``None``: no such limit.
        blind: Whether padding, and with it every token that is also the padding token, is hidden from attention by its
            id: end tokens inside a prompt then are.
        tensorwise: Whether the gradient's norm is the mean over weight tensors, the end token not counted.
        rereads: Whether the text of a true answer is what its scored tokens spell.
    """

    whose: str
    prompt: Callable[[PromptEncoder, str], list[int]]
    row: Callable[[PromptEncoder, str, str], Encoded]
    rows: int | None
    batch: int
    total: int | None
    new: int | None
    blind: bool
    tensorwise: bool
    rereads: bool


PUBLISHED: Mapping[str, Compat] = {
    "tofu": Compat(
        whose="locuslab/tofu", prompt=prompts.tofu_prompt, row=prompts.tofu_row,
        rows=300, batch=30, total=prompts.TOFU_LENGTH, new=None, blind=False, tensorwise=False, rereads=False,
    ),
    "open_unlearning": Compat(
        whose="locuslab/open-unlearning", prompt=prompts.open_unlearning_prompt, row=prompts.open_unlearning_row,
        rows=None, batch=32, total=None, new=200, blind=True, tensorwise=True, rereads=True,
    ),
}  # fmt: skip
"""locuslab/tofu (its documented command, February 2025) and locuslab/open-unlearning at d3d7cf9 (December 2025)."""


def counted(name: str, facts: Sequence[T]) -> list[T]:
    """The rows of a set that count.

    Args:
        name: One of :data:`NAMES`.
        facts: The rows of one evaluation set.
    """
    return list(facts) if name == "none" else list(facts)[: PUBLISHED[name].rows]


def batches(name: str, sizes: Sequence[int]) -> list[list[int]]:
    """Which questions are answered together, by their numbers through all sets; each by itself where it is all one.

    Args:
        name: One of :data:`NAMES`.
        sizes: Rows of every set, in order.
    """
    if name == "none":
        return [[number] for number in range(sum(sizes))]
    found, first, batch = [], 0, PUBLISHED[name].batch
    for size in sizes:
        found += [list(range(at, min(at + batch, first + size))) for at in range(first, first + size, batch)]
        first += size
    return found


def answering(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of the options of ``evaluation`` decides what is answered: the budget of ours, the name of another's.

    Args:
        options: The options of ``evaluation``.
    """
    if options["compat"] == "none":
        return {"max_new_tokens": options["max_new_tokens"]}
    return {"compat": options["compat"]}
