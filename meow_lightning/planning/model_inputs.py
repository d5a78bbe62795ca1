"""The texts that the stages of a run pass to each model, to find invalid ones before hours of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from meow_lightning.data.examples import Dataset
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.errors import UserError
from meow_lightning.models.checkpoint import check
from meow_lightning.models.sources import config_of, locate, parse
from meow_lightning.stages import stage
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Segments


def root_of(artifact: Artifact) -> Artifact | None:
    """Find the initial model behind an artifact, whose tokenizer it uses; ``None`` if it uses no model."""
    current: Artifact | None = artifact
    while current is not None and not is_root(current):
        current = current.needs.get("start") or current.needs.get("model")
    return current


def is_root(artifact: Artifact) -> bool:
    """Whether an artifact is an initial model: a provided one, or one trained from scratch."""
    return artifact.stage == "finetune" and ("given" in artifact.settings or not artifact.needs)


@contextmanager
def explained_need(root: Artifact, artifacts: Sequence[Artifact], *, inversion: str) -> Iterator[None]:
    """Add to an error about a base model that only the source of inverted facts needs it.

    Args:
        root: The model that is fetched.
        artifacts: All artifacts of the run's goal.
        inversion: Name of the source of inverted facts.

    Raises:
        UserError: The error, with the reason and the remedy added.
    """
    try:
        yield
    except UserError as error:
        uses = {name for each in artifacts for name, need in each.needs.items() if need.key == root.key}
        if root.label != "base" or uses != {"teacher"}:
            raise
        raise UserError(
            f"{error}. Only inversion={inversion} needs the base model, to write inverted facts; inversion=rules does "
            "without"
        ) from error


def training_rows(
    artifacts: Sequence[Artifact], dataset: Dataset, *, streams: Mapping[str, StreamBuilder]
) -> dict[str, list[Segments]]:
    """Collect the distinct rows that artifacts train on, score or predict, by the key of their initial model.

    Args:
        artifacts: The artifacts to compute.
        dataset: The dataset of the run.
        streams: The builders of the streams that the run's method trains on.
    """
    by_root: dict[str, dict[Segments, None]] = {}
    for artifact in artifacts:
        if (root := root_of(artifact)) is not None:
            texts = stage(artifact.stage).texts(artifact, dataset, streams=streams)
            by_root.setdefault(root.key, {}).update(dict.fromkeys(texts))
    return {key: list(rows) for key, rows in by_root.items() if rows}


def check_tiny_context(
    rows: Sequence[Segments], dataset: Dataset, *, root: Artifact, prompt: Mapping[str, Any]
) -> None:
    """Check the rows of a model trained from scratch; trains its tokenizer only if a row may be too long.

    Args:
        rows: The rows that it trains on, scores or predicts.
        dataset: The dataset that its tokenizer is trained on.
        root: The model.
        prompt: The options of ``model.prompt``: ``template`` and ``answer_prefix``.

    Raises:
        UserError: A row contains a special token, or is longer than the model's context.
    """
    from meow_lightning.models.vocabulary import END, PAD, tokenizer_texts, train_bpe

    for question, answer, *_ in rows:
        if token := next((token for token in (END, PAD) if token in question or token in answer), None):
            raise UserError(
                f"a text contains the special token {token!r} of the tokenizer: change or drop the row "
                f"(question: {question[:60]!r})"
            )
    context = root.settings["architecture"].get("context")
    if context is None:
        return
    # A token has at least one byte, and one more token ends the row.
    long = [row for row in rows if sum(len(part.encode()) for part in tokenizer_texts([row], prompt)) >= context]
    if not long:
        return
    tokenizer = train_bpe(tokenizer_texts(dataset.tokenizer_corpus(), prompt), vocab_size=root.settings["vocab_size"])
    for row in long:
        tokens = 1 + sum(len(tokenizer.encode(part).ids) for part in tokenizer_texts([row], prompt))
        if tokens > context:
            raise UserError(
                f"a row has {tokens} tokens, and the model's context {context}: shorten the row or increase "
                f"model.architecture.context (question: {row[0][:60]!r})"
            )


def fetch(model: Artifact, *, only_available: bool) -> None:
    """Download a provided model where it is not local, and check that model and tokenizer can be used together.

    Args:
        model: The artifact of a provided model.
        only_available: For plans: download no weights of a hub's model, only check that they are available.

    Raises:
        UserError: A file is missing or damaged, or the two do not match.
    """
    provided = model.inputs["given"]
    weights = parse(provided["option"], provided["weights"], words=())
    if only_available and weights.path is None:
        config_of(weights)
        return
    tokenizer = parse("model.tokenizer", provided["tokenizer"], words=())
    check(provided["option"], locate(weights, weights=True, fetch=True), locate(tokenizer, weights=False, fetch=True))
