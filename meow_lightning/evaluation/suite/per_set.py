"""Per-row metric values of one evaluation set; evaluation averages them, the bootstrap resamples them."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from meow_lightning.data.words import PUBLISHED_ALONE, Words, unreadable
from meow_lightning.evaluation.metrics import (
    exact_memorisation,
    extraction_strength,
    fluency,
    probability,
    rouge,
    truth_ratio,
    value_accuracy,
)
from meow_lightning.evaluation.protocols import open_unlearning_metrics
from meow_lightning.evaluation.protocols.registry import PROTOCOLS, ProtocolName
from meow_lightning.evaluation.suite.inputs import Answers
from meow_lightning.types import AnswerRow, Definition

Outcome = float | str
"""A metric value, or the reason why it is missing."""

RowValues = list[float | None] | str
"""Contribution of each row to a metric (``None``: the row does not count), or the reason why it is missing."""

_OPEN_UNLEARNING: Mapping[str, Callable[[AnswerRow], float | None]] = {
    "probability": open_unlearning_metrics.row_probability,
    "truth_ratio": open_unlearning_metrics.row_truth_ratio,
    "exact_memorisation": open_unlearning_metrics.row_exact_memorisation,
    "extraction_strength": open_unlearning_metrics.row_extraction_strength,
}

_ROUGE: Mapping[str, Callable[..., float | None]] = {
    "rouge_l_recall": rouge.row_rouge_l_recall,
    "rouge_1_recall": rouge.row_rouge_1_recall,
}

# Lower is better only on the forget set, except for its truth ratio, which is 1 for "cannot tell right from wrong".
_LOWER_WHERE_FORGOTTEN = frozenset(
    definition.name
    for definition in (
        probability.DEFINITION,
        probability.NORMALISED_DEFINITION,
        rouge.DEFINITION,
        rouge.ROUGE_1_DEFINITION,
        value_accuracy.DEFINITION,
        exact_memorisation.DEFINITION,
        extraction_strength.DEFINITION,
    )
)


def finite(value: float) -> Outcome:
    """Return ``value`` if it is finite, else the reason why it is not reported.

    Args:
        value: Computed value.
    """
    if math.isfinite(value):
        return value
    return f"its value is {value}: some answers have a likelihood that is not finite; did training diverge?"


def with_mean(definition: Definition, mean: truth_ratio.Mean) -> Definition:
    """Extend the definition of a metric that depends on the truth ratio's mean by naming that mean.

    Args:
        definition: Definition of the metric.
        mean: How wrong answers are averaged.
    """
    text = f"{definition.text} The truth ratio uses the {mean} mean."
    return dataclasses.replace(definition, id=f"{definition.id}.{mean}", text=text)


def with_protocol(definition: Definition, protocol: ProtocolName) -> Definition:
    """Extend the definition of a metric computed by a published evaluator's formula by naming that evaluator.

    Args:
        definition: Definition of the metric.
        protocol: Evaluation protocol.
    """
    if protocol == "none":
        return definition
    text = f"{definition.text} Answered and scored as {PROTOCOLS[protocol].source} does."
    return dataclasses.replace(definition, id=f"{definition.id}.{protocol}", text=text)


def set_definitions(name: str, mean: truth_ratio.Mean) -> list[Definition]:
    """List the definitions of one set's metrics, in reporting order, each named ``set/metric``.

    Args:
        name: Evaluation set.
        mean: How the truth ratio averages wrong answers.
    """
    options = name in probability.OPTION_SETS
    named = []
    for base in (
        probability.OPTIONS_DEFINITION if options else probability.DEFINITION,
        *(() if options else (probability.NORMALISED_DEFINITION,)),
        rouge.DEFINITION,
        rouge.ROUGE_1_DEFINITION,
        with_mean(truth_ratio.FORGET_DEFINITION if name == "forget" else truth_ratio.DEFINITION, mean),
        value_accuracy.DEFINITION,
        exact_memorisation.DEFINITION,
        extraction_strength.DEFINITION,
        fluency.DEFINITION,
        fluency.REPETITION_DEFINITION,
        fluency.ENDED_DEFINITION,
    ):
        lower = name == "forget" and base.name in _LOWER_WHERE_FORGOTTEN
        # neither direction is better on texts that no model was trained on
        direction = "none" if name == "holdout" else "lower" if lower else base.direction
        named.append(dataclasses.replace(base, name=f"{name}/{base.name}", direction=direction))
    return named


def set_outcomes(answers: Answers, role: str, name: str) -> dict[str, Outcome]:
    """Compute the metrics of one set and model, each under ``set/metric``.

    Args:
        answers: Answers of all models.
        role: Role of the model.
        name: Evaluation set.
    """
    outcomes: dict[str, Outcome] = {}
    for definition in set_definitions(name, answers.mean):
        values = row_values(answers, role, definition.name)
        outcomes[definition.name] = values if isinstance(values, str) else mean_of(values)
    return outcomes


def mean_of(values: Sequence[float | None]) -> Outcome:
    """Average over the rows that count; the reason if the mean is not finite.

    Args:
        values: Contribution of each row, at least one of them not ``None``.
    """
    return finite(statistics.fmean(value for value in values if value is not None))


def row_values(answers: Answers, role: str, number: str) -> RowValues:
    """Compute the contribution of each row of a set to one of its metrics, in order, or the reason if it is missing.

    Args:
        answers: Answers of all models.
        role: Role of the model.
        number: ``set/metric``, as named by :func:`set_definitions`.
    """
    name, _, kind = number.partition("/")
    if reason := answers.missing_reason(role, name):
        return reason
    rows = answers.sets[role][name]
    if reason := _missing_inputs(name, kind, rows, answers):
        return reason
    value = _row_function(kind, answers)
    return [value(row) for row in rows] if value else _context_values(answers, role, kind, rows)


def _row_function(kind: str, answers: Answers) -> Callable[[AnswerRow], float | None] | None:
    """Look up the per-row function of a metric; ``None`` if the metric needs more than the row itself."""
    if answers.protocol == "open_unlearning" and kind in _OPEN_UNLEARNING:
        return _OPEN_UNLEARNING[kind]
    if kind in _ROUGE:
        return functools.partial(_ROUGE[kind], kind=answers.words)
    return {
        "probability": probability.row_probability,
        "normalised_probability": probability.row_normalised_probability,
        "value_accuracy": value_accuracy.row_value_accuracy,
        "exact_memorisation": exact_memorisation.row_exact_memorisation,
        "extraction_strength": extraction_strength.row_extraction_strength,
        "repetition": fluency.row_repetition,
        "ended": fluency.row_ended,
    }.get(kind)


def _context_values(answers: Answers, role: str, kind: str, rows: list[AnswerRow]) -> list[float | None]:
    if kind == "fluency":
        return [fluency.row_fluency(row, known=answers.known[role]) for row in rows]
    return [truth_ratio.row_truth_ratio(row, mean=answers.mean) for row in rows]


def _missing_inputs(name: str, kind: str, rows: list[AnswerRow], answers: Answers) -> str:
    """Explain which input of a metric the rows lack; empty if none."""
    of = f"{len(rows)} questions of set {name!r}"
    needs_wrong = kind in ("truth_ratio", "normalised_probability") or (
        kind == "probability" and name in probability.OPTION_SETS
    )
    if needs_wrong and (missing := sum(not row.perturbed for row in rows)):
        return f"{missing} of {of} have no wrong (perturbed) answers"
    if kind == "value_accuracy" and not any(map(value_accuracy.has_value, rows)):
        return f"no question of set {name!r} marks the words that carry its fact (value)"
    if kind in _ROUGE:
        return _without_words(name, rows, answers.words)
    if kind in ("exact_memorisation", "extraction_strength"):
        return without_tokens(name, rows, protocol=answers.protocol)
    if kind == "ended" and (missing := sum(fluency.row_ended(row) is None for row in rows)):
        return f"{missing} of {of} have no stop reason of the generated answer: they come from a log"
    return ""


def _without_words(name: str, rows: Sequence[AnswerRow], kind: Words) -> str:
    """Explain why ROUGE cannot be computed for a set; empty if it can."""
    of = f"{len(rows)} true answers of set {name!r}"
    if missing := sum(unreadable(row.answer, kind=kind) for row in rows):
        return f"not measured: {missing} of {of} cannot be read: {PUBLISHED_ALONE}"
    if all(rouge.row_rouge_1_recall(row, kind=kind) is None for row in rows):
        return f"not measured: none of {of} contains a word"
    return ""


def without_tokens(name: str, rows: Sequence[AnswerRow], *, protocol: ProtocolName) -> str:
    """Explain why the true answers of a set have no per-token likelihoods; empty if they have.

    Args:
        name: Evaluation set, for the message.
        rows: Its rows.
        protocol: Evaluation protocol; open-unlearning skips single rows without such tokens or counts them as 0.
    """
    of = f"{len(rows)} true answers of set {name!r}"
    if missing := sum(not exact_memorisation.has_tokens(row.truth) for row in rows):
        return f"{missing} of {of} have only a mean loss and no per-token likelihoods: they come from a log"
    missing = sum(len(row.truth.hits) < 2 for row in rows)
    if missing == len(rows) or (missing and protocol != "open_unlearning"):
        return f"{missing} of {of} have no token besides the end token"
    return ""
