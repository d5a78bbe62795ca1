"""All metrics of one run from stored predictions and MEMO scores: arithmetic only, seconds on a CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from meow_lightning.data.words import Words
from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import MetricSettings, Scores, partial_sets
from meow_lightning.evaluation.metric import Outcome
from meow_lightning.evaluation.metrics import all_metrics
from meow_lightning.evaluation.protocols.registry import PROTOCOLS
from meow_lightning.evaluation.sets import BENCHMARK
from meow_lightning.evaluation.suite.inputs import SideInputs, collect_answers, metric_settings
from meow_lightning.types import ROLES, AnswerRow, Definition, Results, SetInfo


def evaluate(
    rows: Mapping[str, list[AnswerRow]],
    memo: Mapping[str, Scores],
    *,
    truth_ratio_mean: str,
    absent: Mapping[str, str] | None = None,
    protocol: str = "none",
    words: Words = "unicode",
    side_inputs: SideInputs | None = None,
    benchmark: Sequence[SetInfo] = BENCHMARK,
) -> Results:
    """Compute every metric of every role; ``missing`` gives the reason for each one that cannot be computed.

    Args:
        rows: Prediction rows of all sets, by role (``target``, ``retain``, ``unlearned``); any role may be absent.
        memo: MEMO scores by role, in any grouping (such as ``answers`` and ``candidates``); any role may be absent.
        truth_ratio_mean: ``geometric`` or ``arithmetic``, see :func:`~.metrics.truth_ratio.log_truth_ratio`.
        absent: Reason why a model is missing, by role, if known.
        protocol: One of :data:`~meow_lightning.evaluation.protocols.registry.PROTOCOL_NAMES`; the rows must come from
            the same protocol.
        words: Word splitting for ROUGE; under a published protocol always a-z and 0-9.
        side_inputs: What metrics read besides, if anything.
        benchmark: The evaluation sets, with purpose and scoring, in reporting order; a set that it names and that a
            model did not answer is missing from model utility.

    Raises:
        UserError: Unknown role or mean, an incomplete set, or models that answered different questions.
    """
    side = side_inputs or SideInputs()
    settings = metric_settings(
        truth_ratio_mean=truth_ratio_mean, protocol=protocol, words=words, retain_aucs=side.retain_aucs,
        extra=side.extra_metrics, partial=partial_sets(row for role_rows in rows.values() for row in role_rows),
    )  # fmt: skip
    answers = collect_answers(rows, memo, settings, absent=absent or {}, side_inputs=side, benchmark=benchmark)
    defined = definitions(answers.present, settings, protocol=protocol)
    results = Results(definitions=defined, values={}, missing={})
    for role in ROLES:
        outcomes: dict[str, Outcome] = {}
        for metric in all_metrics(settings.extra):
            outcomes |= metric.outcomes(answers, role, outcomes)
        found = [(each.name, outcomes[each.name]) for each in defined]
        results.values[role] = {name: value for name, value in found if not isinstance(value, str)}
        results.missing[role] = {name: reason for name, reason in found if isinstance(reason, str)}
    return results


def definitions(sets: Sequence[SetInfo], settings: MetricSettings, *, protocol: str) -> tuple[Definition, ...]:
    """List the definitions of all metrics, in reporting order.

    Args:
        sets: The evaluation sets, in reporting order.
        settings: How numbers are computed.
        protocol: One of :data:`~meow_lightning.evaluation.protocols.registry.PROTOCOL_NAMES`.
    """
    defined = []
    for metric in all_metrics(settings.extra):
        for each in metric.definitions(sets, settings):
            defined.append(_with_protocol(each, protocol) if metric.from_predictions else each)
    return tuple(sorted(defined, key=lambda each: each.order))


def results_to_json(results: Results) -> dict[str, Any]:
    """Convert results to plain dictionaries, lists, strings and finite numbers.

    Args:
        results: Result of :func:`evaluate`.
    """
    stored = dataclasses.asdict(results)
    return stored if results.conditions else {name: each for name, each in stored.items() if name != "conditions"}


def results_from_json(stored: Mapping[str, Any]) -> Results:
    """Restore the results that :func:`results_to_json` converted, equal to the original.

    Args:
        stored: Its return value, possibly read from a JSON file.

    Raises:
        UserError: ``stored`` does not have the expected form.
    """
    try:
        return Results(
            definitions=tuple(Definition(**definition) for definition in stored["definitions"]),
            values={role: dict(numbers) for role, numbers in stored["values"].items()},
            missing={role: dict(reasons) for role, reasons in stored["missing"].items()},
            conditions=dict(stored.get("conditions", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"the stored results do not match this version ({error!r}): expected definitions, values and missing; run "
            "the stage `evaluate` again"
        ) from error


def _with_protocol(definition: Definition, protocol: str) -> Definition:
    """Extend the definition of a metric computed by a published evaluator's formula by naming that evaluator."""
    if protocol == "none":
        return definition
    text = f"{definition.text} Answered and scored as {PROTOCOLS[protocol].source} does."
    return dataclasses.replace(definition, id=f"{definition.id}.{protocol}", text=text)
