"""Bytes that the stages which train nothing leave in the store: replies, candidates, scores, answers, reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meow_lightning.data.encoding import estimated_length
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Dataset, Fact

# Bytes of JSON as it is written, read off results of the default job.
ROW = 120  # names and small numbers of a row, whatever its texts
TOKEN = 75  # of a reference text's token: id, log-probability, hit, mean and deviation
GENERATED = 6  # of a generated token's id
WINDOW = 10  # of a window's score
MANIFEST = 4_000  # of any result
NUMBERS = 40_000  # of an evaluation: every metric with its interval
REPORT = 500_000  # of a report: pictures, tables and a page without questions
QUESTION = 1_500  # of a question in the page, its texts aside


def bytes_written(artifact: Artifact, options: Mapping[str, Any], dataset: Dataset) -> int:
    """Bytes that a result takes on the disk; of a training or a given model the manifest alone.

    Args:
        artifact: What is to be made.
        options: Resolved options of its run.
        dataset: The run's facts.
    """
    forget, stage = dataset.facts("forget"), artifact.stage
    candidates = options["inversion"].get("candidates", 1)
    body = 0
    if stage == "propose":
        body = sum(ROW + _reply(fact, options["inversion"]) for fact in forget)
    elif stage == "filter":
        body = candidates * sum(ROW + len(fact.question) + len(fact.answer) for fact in forget)
    elif stage == "score":
        texts = candidates if "inverted" in artifact.needs else 1
        body = texts * sum(ROW + len(fact.answer) * (1 + WINDOW // options["memo"].get("stride", 1)) for fact in forget)
    elif stage == "predict":
        most = options["evaluation"]["max_new_tokens"]
        body = sum(_answered(fact, most) for facts in dataset.evaluation().values() for fact in facts)
    elif stage == "evaluate":
        body = NUMBERS
    elif stage == "report":
        body = REPORT + sum(QUESTION + len(fact.question) + 4 * len(fact.answer) for fact in forget)
    return MANIFEST + body


def _reply(fact: Fact, inversion: Mapping[str, Any]) -> int:
    """Characters of what a writer says about a fact: a model's reply is as long as its budget, at most."""
    if "max_new_tokens" in inversion:
        return 4 * inversion["max_new_tokens"]
    return inversion.get("candidates", len(fact.inverted)) * len(fact.answer)


def _answered(fact: Fact, most: int) -> int:
    """Bytes of an answer's row: each reference text token by token, then what the model says, about as long."""
    references = [fact.answer, *filter(None, [fact.paraphrase]), *fact.perturbed]
    tokens = sum(estimated_length(text) + 1 for text in references)
    said = min(most, estimated_length(fact.answer))
    return 2 * ROW + TOKEN * tokens + GENERATED * said + len(fact.question) + 3 * len(fact.answer)
