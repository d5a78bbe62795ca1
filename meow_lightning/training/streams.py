"""Rows of a method's streams: texts of a dataset, encoded, with the start model's log-probabilities where needed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch

from meow_lightning.data.collate import collate, to_device
from meow_lightning.data.examples import Dataset
from meow_lightning.data.streams.refusals import Refusals
from meow_lightning.data.streams.resolve import stream_builders
from meow_lightning.data.streams.split import Split
from meow_lightning.generation.capabilities import batch_length_limit, split_batches
from meow_lightning.memo.select import Layout, Strategy, layout, select
from meow_lightning.models.logprobs import answer_logps
from meow_lightning.types import Encoded, InvertedFact, Method, ScoredText, Segments


def stream_texts(
    method: Method, dataset: Dataset, *, inverted: Sequence[InvertedFact], seed: int,
    refusals: Refusals | None = None,
) -> dict[str, list[Segments]]:  # fmt: skip
    """Collect the texts of every stream that a method trains on.

    Args:
        method: The method.
        dataset: The facts.
        inverted: The selected inverted facts, one per row; empty for a method that trains on none.
        seed: Seed of the builders' random choices, such as that of refusals.
        refusals: Builder of refusals; ``None`` for one of our own.
    """
    texts: dict[str, list[Segments]] = {}
    for name, builder in stream_builders(method, inverted=inverted, refusals=refusals).items():
        if isinstance(builder, Split) and name in method.paired and method.streams[0] == "inverted":
            truth = {example.id: example.segments for example in dataset.facts(name)}
            texts[name] = [truth[each.fact] for each in inverted]
        else:
            texts[name] = builder.segments(dataset, seed=seed)
    return texts


def select_inverted(
    inverted: Iterable[InvertedFact], scores: Iterable[ScoredText], *, k: int, strategy: Strategy, rows: Layout,
    seed: int,
) -> list[InvertedFact]:  # fmt: skip
    """Select inverted facts by their MEMO scores, one per training row; a fact with fewer than k gives all it has.

    Args:
        inverted: Inverted facts in any number per fact.
        scores: Their scores; those without one are not selected.
        k: Number to select per fact, from 1.
        strategy: See :func:`meow_lightning.memo.select.select`.
        rows: See :func:`meow_lightning.memo.select.layout`.
        seed: Seed of ``strategy="random"``.
    """
    by_place = {(each.fact, each.position): each for each in inverted}
    scored: dict[str, list[ScoredText]] = {fact: [] for fact, _ in by_place}
    for each in scores:
        scored[each.fact].append(each)
    picked: list[InvertedFact] = []
    for fact, texts in scored.items():
        if texts:
            values = [each.score for each in texts]
            chosen = select(values, k=min(k, len(texts)), strategy=strategy, seed=seed, fact=fact)
            positions = layout([texts[number].position for number in chosen], rows=rows)
            picked += [by_place[fact, position] for position in positions]
    return picked


def reference_logps(
    model: torch.nn.Module, rows: Sequence[Encoded], *, indices: Sequence[int], pad_id: int, batch: int
) -> list[tuple[int, float]]:
    """Compute log p(answer | prompt) of some rows under the start model, in nats.

    Args:
        model: The start model in evaluation mode, on the device that computes.
        rows: Rows of one stream.
        indices: Which of them, in the order in which they are computed.
        pad_id: Token id of padding.
        batch: Rows per forward pass, from 1.

    Returns:
        Index and log-probability of each.
    """
    device = next(model.parameters()).device
    lengths, border = [len(row.ids) for row in rows], batch_length_limit(model)
    logps: list[tuple[int, float]] = []
    with torch.no_grad():
        for part in split_batches(indices, lengths=lengths, most=batch, border=border):
            collated = collate([rows[index] for index in part], pad_id=pad_id)
            values = answer_logps(model, to_device(collated, device))
            logps += zip(part, values.tolist(), strict=True)
    return logps


def longest_first(rows: Sequence[Encoded]) -> list[int]:
    """Order the indices of rows by length, the longest first."""
    return sorted(range(len(rows)), key=lambda index: -len(rows[index].ids))


def with_reference_logps(
    model: torch.nn.Module, streams: Mapping[str, Sequence[Encoded]], *, compared: Collection[str], pad_id: int,
    batch: int,
) -> dict[str, list[Encoded]]:  # fmt: skip
    """Add the start model's log-probabilities to the rows of some streams, in one process.

    Args:
        model: As for :func:`reference_logps`.
        streams: Rows by stream.
        compared: The streams whose rows get them.
        pad_id: Token id of padding.
        batch: Rows per forward pass, from 1.
    """
    complete: dict[str, list[Encoded]] = {}
    for name, rows in streams.items():
        complete[name] = list(rows)
        if name in compared:
            order = longest_first(rows)
            for index, logp in reference_logps(model, rows, indices=order, pad_id=pad_id, batch=batch):
                complete[name][index] = rows[index]._replace(reference=logp)
    return complete
