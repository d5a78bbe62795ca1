"""Registry of published evaluation protocols: how their prompts, rows, batches and token budgets differ from ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from meow_lightning.data.examples import Dataset, is_passage
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.errors import invalid_option
from meow_lightning.evaluation.protocols import prompts
from meow_lightning.types import Encoded

ProtocolName = Literal["none", "tofu", "open_unlearning"]
"""Evaluation protocols: ours (``none``), locuslab/tofu, locuslab/open-unlearning."""

PROTOCOL_NAMES: tuple[ProtocolName, ...] = get_args(ProtocolName)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationProtocol:
    """A published evaluation protocol.

    Attributes:
        source: The code base.
        prompt: Builds the generation prompt's tokens from a codec and a question.
        row: Encodes the scored row from a codec, a question and an answer.
        max_rows: Number of first rows of a set that are evaluated; ``None`` for all.
        batch_size: Number of prompts generated together, in the order of the set.
        max_total_tokens: Limit on the tokens of a batch's longest prompt plus the generated ones; ``None``: unlimited.
        max_new_tokens: Limit on the generated tokens; ``None``: unlimited.
        mask_pad_ids: Whether attention masks padding by token id, which also masks end tokens inside a prompt if both
            share an id.
        mean_over_tensors: Whether the gradient norm is the mean over weight tensors, without the end token.
        decodes_scored_text: Whether the text of a true answer is decoded from its scored tokens.
    """

    source: str
    prompt: Callable[[PromptEncoder, str], list[int]]
    row: Callable[[PromptEncoder, str, str], Encoded]
    max_rows: int | None
    batch_size: int
    max_total_tokens: int | None
    max_new_tokens: int | None
    mask_pad_ids: bool
    mean_over_tensors: bool
    decodes_scored_text: bool


PROTOCOLS: Mapping[str, EvaluationProtocol] = {
    "tofu": EvaluationProtocol(
        source="locuslab/tofu",
        prompt=prompts.tofu_prompt,
        row=prompts.tofu_row,
        max_rows=300,
        batch_size=30,
        max_total_tokens=prompts.TOFU_LENGTH,
        max_new_tokens=None,
        mask_pad_ids=False,
        mean_over_tensors=False,
        decodes_scored_text=False,
    ),
    "open_unlearning": EvaluationProtocol(
        source="locuslab/open-unlearning",
        prompt=prompts.open_unlearning_prompt,
        row=prompts.open_unlearning_row,
        max_rows=None,
        batch_size=32,
        max_total_tokens=None,
        max_new_tokens=200,
        mask_pad_ids=True,
        mean_over_tensors=True,
        decodes_scored_text=True,
    ),
}
"""locuslab/tofu (its documented command, February 2025) and locuslab/open-unlearning at d3d7cf9 (December 2025)."""


def check_protocol(name: str, dataset: Dataset, *, template: str) -> None:
    """Check that a protocol can evaluate a dataset with a model's prompt.

    Args:
        name: One of :data:`PROTOCOL_NAMES`.
        dataset: The dataset.
        template: ``model.prompt.template``.

    Raises:
        UserError: It cannot.
    """
    if name != "none" and any(is_passage(one) for each in dataset.evaluation().values() for one in each):
        raise invalid_option(
            "evaluation.protocol", name, "none: published evaluators score answers to questions, not passages as "
            f"dataset={dataset.name} has", did_you_mean="none",
        )  # fmt: skip
    if name == "tofu":
        prompts.check_tags(template)


def counted_rows(name: str, facts: Sequence[T]) -> list[T]:
    """Select the rows of a set that the protocol evaluates.

    Args:
        name: One of :data:`PROTOCOL_NAMES`.
        facts: The rows of one evaluation set.
    """
    return list(facts) if name == "none" else list(facts)[: PROTOCOLS[name].max_rows]


def generation_batches(name: str, sizes: Sequence[int]) -> list[list[int]]:
    """Group question numbers (counted across all sets) into generation batches; singletons if batching is irrelevant.

    Args:
        name: One of :data:`PROTOCOL_NAMES`.
        sizes: Number of rows of every set, in order.
    """
    if name == "none":
        return [[number] for number in range(sum(sizes))]
    batches, first, batch_size = [], 0, PROTOCOLS[name].batch_size
    for size in sizes:
        end = first + size
        batches += [list(range(start, min(start + batch_size, end))) for start in range(first, end, batch_size)]
        first = end
    return batches


def prediction_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Select the options of ``evaluation`` that affect predictions: our token budget, or a published protocol's name.

    Args:
        options: All options of ``evaluation``.
    """
    if options["protocol"] == "none":
        return {"max_new_tokens": options["max_new_tokens"]}
    return {"protocol": options["protocol"]}
