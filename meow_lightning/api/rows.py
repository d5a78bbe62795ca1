"""Training rows of a method outside the pipeline: its streams, encoded, with inverted facts selected by a measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from meow_lightning.api.invert import invert
from meow_lightning.config.composition import library_options
from meow_lightning.config.methods import build_method, file_of, method_names
from meow_lightning.config.schema import RunConfig, Select
from meow_lightning.data.batch_plan import BatchPlan, StreamData
from meow_lightning.data.encoding import encode
from meow_lightning.data.examples import Dataset, check_init
from meow_lightning.data.streams.refusals import Refusals
from meow_lightning.data.streams.resolve import check_streams, stream_builders
from meow_lightning.errors import UserError
from meow_lightning.memo.measure import Measure
from meow_lightning.memo.scoring import score
from meow_lightning.models.language_model import LanguageModel
from meow_lightning.training.streams import select_inverted, stream_texts, with_reference_logps
from meow_lightning.types import Encoded, InvertedFact, Method

UNTRAINED = "none"  # the file of conf/method that stands in for a class without a file of its own


def resolve_method(method: str | Method, dataset: Dataset, words: Sequence[str]) -> tuple[Method, RunConfig]:
    """Build a method and compose the options of a run with it.

    Args:
        method: Name of a file in ``conf/method``, or a method.
        dataset: The examples to train on.
        words: Further words of the command line.

    Returns:
        The method; and the options of its file for a user's own model, changed by the words. A class of which no file
        exists gets options without a recipe.

    Raises:
        UserError: The name or a word is invalid, the method unlearns in rounds, or the dataset lacks a stream of it
            or of the initial values of its adapters.
    """
    built: Method = build_method(method) if isinstance(method, str) else method
    name = method if isinstance(method, str) else file_of(method) or type(method).__name__
    described = name if name in method_names() else UNTRAINED
    options = library_options([f"method={described}", *words])
    if isinstance(method, str) and options.method.rounds is not None:
        raise UserError(
            f"method={method} unlearns in rounds, which takes the pipeline: use meow.run(['method={method}', …])"
        )
    check_streams(stream_builders(built), dataset, method=name)
    check_init((options.adapters or {}).get("init", "default"), dataset)
    return built, options


def selected_facts(
    start: LanguageModel,
    dataset: Dataset,
    method: Method,
    *,
    inverted: Sequence[InvertedFact] | None,
    measure: str | Measure,
    select: Select | None,
    seed: int,
) -> list[InvertedFact]:
    """Select the inverted facts that a method trains on, one per row, by their scores under the start model.

    Args:
        start: The start model.
        dataset: The facts.
        method: The method.
        inverted: The inverted facts to select from; ``None`` to have rules write them.
        measure: Measure of the scores.
        select: ``method.select``; ``None`` to train on all of them.
        seed: Seed of rules and of a random selection.

    Returns:
        The selection; empty for a method that trains on no inverted facts.
    """
    if "inverted" not in method.streams:
        return []
    written = invert(dataset, seed=seed) if inverted is None else list(inverted)
    if select is None:
        return written
    if select.baseline != "none":
        raise UserError(
            f"method.select.baseline={select.baseline} needs a second model, which takes the pipeline: use meow.run, "
            "or set method.select.baseline=none"
        )
    scores = score(start, written, measure=measure)
    return select_inverted(written, scores, k=select.k, strategy=select.strategy, rows=select.rows, seed=seed)


def training_plan(
    network: torch.nn.Module,
    start: LanguageModel,
    dataset: Dataset,
    method: Method,
    *,
    inverted: Sequence[InvertedFact],
    shape: Mapping[str, Any],
    eval_batch_size: int,
    refusals: Refusals | None = None,
) -> BatchPlan:
    """Plan the global batches of a method.

    Args:
        network: The start model in evaluation mode, as it will be trained; it computes reference log-probabilities.
        start: The same with its prompt encoder.
        dataset: The facts.
        method: The method.
        inverted: The selected inverted facts, one per row.
        shape: ``global_batch_size``, ``batch_tokens``, ``epochs`` and ``seed`` of the plan.
        eval_batch_size: Rows per forward pass of the log-probabilities, from 1.
        refusals: Builder of the refusals to train on; ``None`` for one of our own.

    Raises:
        UserError: A stream has no rows, or a row exceeds the model's context.
    """

    def planned(rows: Mapping[str, Sequence[Encoded]]) -> BatchPlan:
        streams = {name: StreamData.of_draws(each, builders[name].draws) for name, each in rows.items()}
        return BatchPlan(streams=streams, paired=method.paired, **shape)

    builders = stream_builders(method, refusals=refusals)
    texts = stream_texts(method, dataset, inverted=inverted, seed=shape["seed"], refusals=refusals)
    rows = {name: encode(start.encoder, each) for name, each in texts.items()}
    plan = planned(rows)  # fail on an impossible plan before the start model is evaluated
    if method.reference not in ("logprobs", "both"):
        return plan
    compared = [name for name, builder in builders.items() if builder.compared]
    return planned(
        with_reference_logps(network, rows, compared=compared, pad_id=start.encoder.pad_id, batch=eval_batch_size)
    )
