"""Disk estimates of stages that do not train: replies, candidates, scores, predictions, reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meow_lightning.data.encoding import estimated_length
from meow_lightning.planning.ability import question_count
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Dataset, Fact

# Bytes of JSON, measured on results of the default run.
ROW = 120  # keys and small numbers of a row, without its texts
TOKEN = 75  # per token of a reference text: id, log-probability, hit, mean and deviation
GENERATED = 6  # per generated token id
WINDOW = 10  # per window score
MANIFEST = 4_000  # per result
ANSWERED = 150  # per question of an ability task
NUMBERS = 40_000  # per evaluation: every metric with its interval
REPORT = 500_000  # per report: figures, tables and a page without questions
QUESTION = 1_500  # per question in the page, without its texts


def bytes_written(artifact: Artifact, options: Mapping[str, Any], dataset: Dataset) -> int:
    """Estimate the bytes of a result on disk; for trained and provided models the manifest alone.

    Args:
        artifact: The artifact to compute.
        options: Resolved options of its run.
        dataset: The dataset of the run.
    """
    forget, stage = dataset.facts("forget"), artifact.stage
    candidates = options["inversion"].get("candidates", 1)
    body = 0
    if stage == "propose":
        body = sum(ROW + _reply(fact, options["inversion"]) for fact in forget)
    elif stage == "filter":
        body = candidates * sum(ROW + len(fact.question) + len(fact.answer) for fact in forget)
    elif stage == "score":
        texts = candidates if "filtered" in artifact.needs else 1
        body = texts * sum(ROW + len(fact.answer) * (1 + WINDOW // options["memo"].get("stride", 1)) for fact in forget)
    elif stage == "predict":
        budget = options["evaluation"]["max_new_tokens"]
        body = sum(_prediction(fact, budget) for facts in dataset.evaluation().values() for fact in facts)
    elif stage == "ability":
        body = ANSWERED * question_count(artifact)
    elif stage == "evaluate":
        body = NUMBERS
    elif stage == "report":
        body = REPORT + sum(QUESTION + len(fact.question) + 4 * len(fact.answer) for fact in forget)
    return MANIFEST + body


def _reply(fact: Fact, inversion: Mapping[str, Any]) -> int:
    """Estimate the characters of a writer's reply about a fact; for a language model its budget of tokens."""
    if "max_new_tokens" in inversion:
        return 4 * inversion["max_new_tokens"]
    return inversion.get("candidates", len(fact.inverted)) * len(fact.answer)


def _prediction(fact: Fact, budget: int) -> int:
    """Estimate the bytes of a prediction row: reference texts token by token, and an answer of similar length."""
    references = [fact.answer, *filter(None, [fact.paraphrase]), *fact.perturbed]
    tokens = sum(estimated_length(text) + 1 for text in references)
    generated = min(budget, estimated_length(fact.answer))
    return 2 * ROW + TOKEN * tokens + GENERATED * generated + len(fact.question) + 3 * len(fact.answer)
