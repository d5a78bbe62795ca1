"""All numbers of one cell from stored answers and stored MEMO scores: arithmetic only, seconds on a CPU."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping
from typing import Any

from meow_lightning.evaluation.metrics import (
    forget_quality,
    model_utility,
    probability,
    rouge,
    truth_ratio,
    value_accuracy,
)
from meow_lightning.evaluation.rows import by_set
from meow_lightning.types import AnswerRow, Definition, Results, ScoredText, UserError

ROLES = ("target", "retain", "unlearned")
SETS = ("forget", "retain", "real_authors", "world_facts", "holdout")
"""Reporting order; sets by other names follow."""

Outcome = float | str
"""A number, or the reason why there is none."""

RowsBySet = dict[str, list[AnswerRow]]
Scores = Mapping[str, list[ScoredText]]

MEMO_DEFINITIONS = (
    Definition(
        name="memo/answers",
        id="memo_answers.1",
        unit="score",
        direction="lower",
        text="Mean MEMO score of the true answers of the forget set: how strongly the model holds them.",
    ),
    Definition(
        name="memo/candidates",
        id="memo_candidates.1",
        unit="score",
        direction="none",
        text="Mean MEMO score of the inverted answers: how strongly the model holds what contradicts the forget set.",
    ),
)
_FORGET_QUALITY_DEFINITIONS = (
    forget_quality.DEFINITION,
    forget_quality.LOG10_DEFINITION,
    forget_quality.DISTANCE_DEFINITION,
    forget_quality.ROWS_DEFINITION,
)


def evaluate(
    rows: Mapping[str, list[AnswerRow]],
    memo: Mapping[str, Scores],
    *,
    truth_ratio_mean: str,
    absent: Mapping[str, str] | None = None,
) -> Results:
    """Every number of every role, or in ``missing`` the reason why it could not be had.

    Args:
        rows: Answered questions of all sets, by role (``target``, ``retain``, ``unlearned``); any role may be absent.
        memo: MEMO scores by role, in any grouping (such as ``answers`` and ``candidates``); any role may be absent.
        truth_ratio_mean: ``geometric`` or ``arithmetic``, see :func:`~.metrics.truth_ratio.log_truth_ratio`.
        absent: Why there is no such model, by role, where the reason is known.

    Raises:
        UserError: A role or mean does not exist, a set is incomplete, or models answered different questions.
    """
    mean, absent = truth_ratio.parse_mean(truth_ratio_mean), absent or {}
    unknown = sorted((set(rows) | set(memo)) - set(ROLES))
    if unknown:
        raise UserError(f"role {unknown[0]!r} was given; allowed are {', '.join(ROLES)}: rename it to one of these")
    # a model that answered nothing is reported like one that was not asked
    answered = {role: sets for role in rows if (sets := _sets_of(role, rows[role]))}
    names = _ordered({name for sets in answered.values() for name in sets})
    results = Results(definitions=_definitions(names, mean), values={}, missing={})
    for role in ROLES:
        outcomes: dict[str, Outcome] = {}
        for name in names:
            outcomes |= _set_outcomes(role, name, answered, mean, absent)
        outcomes["model_utility"] = _model_utility(role, outcomes, answered, absent)
        outcomes |= _forget_quality(role, answered, mean, absent)
        outcomes |= _memo(role, memo.get(role), absent)
        results.values[role] = {name: value for name, value in outcomes.items() if not isinstance(value, str)}
        results.missing[role] = {name: reason for name, reason in outcomes.items() if isinstance(reason, str)}
    return results


def results_to_json(results: Results) -> dict[str, Any]:
    """``results`` as plain dictionaries, lists, texts and finite numbers.

    Args:
        results: What :func:`evaluate` gave.
    """
    return dataclasses.asdict(results)


def results_from_json(stored: Mapping[str, Any]) -> Results:
    """The results that :func:`results_to_json` turned into plain values, equal to the original.

    Args:
        stored: Its outcome, also after a trip through a JSON file.

    Raises:
        UserError: ``stored`` has another form.
    """
    try:
        return Results(
            definitions=tuple(Definition(**definition) for definition in stored["definitions"]),
            values={role: dict(numbers) for role, numbers in stored["values"].items()},
            missing={role: dict(reasons) for role, reasons in stored["missing"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"these are not stored results of this version ({error!r}); they must hold definitions, values and "
            "missing: run the stage `evaluate` again"
        ) from error


def _sets_of(role: str, rows: list[AnswerRow]) -> RowsBySet:
    try:
        return by_set(rows)
    except UserError as error:
        raise UserError(f"the {role} model's answers: {error}") from error


def _ordered(names: set[str]) -> list[str]:
    return [name for name in SETS if name in names] + sorted(names - set(SETS))


def _definitions(names: list[str], mean: truth_ratio.Mean) -> tuple[Definition, ...]:
    def with_mean(definition: Definition) -> Definition:
        text = f"{definition.text} The truth ratio uses the {mean} mean."
        return dataclasses.replace(definition, id=f"{definition.id}.{mean}", text=text)

    listed = []
    for name in names:
        share = probability.OPTIONS_DEFINITION if name in probability.OPTION_SETS else probability.DEFINITION
        ratio = truth_ratio.FORGET_DEFINITION if name == "forget" else truth_ratio.DEFINITION
        for base in (share, rouge.DEFINITION, with_mean(ratio), value_accuracy.DEFINITION):
            # only the forget set is to be answered worse; its truth ratio says "cannot tell", so there more is better
            lower = name == "forget" and base.name != "truth_ratio"
            direction = "lower" if lower else base.direction
            listed.append(dataclasses.replace(base, name=f"{name}/{base.name}", direction=direction))
    listed.append(with_mean(model_utility.DEFINITION))
    first, log10, distance, number = _FORGET_QUALITY_DEFINITIONS
    return (*listed, with_mean(first), with_mean(log10), with_mean(distance), number, *MEMO_DEFINITIONS)


def _finite(value: float) -> Outcome:
    if math.isfinite(value):
        return value
    return f"it came out as {value}: some answers have a likelihood that is not a number; did training diverge?"


def _set_outcomes(
    role: str, name: str, answered: Mapping[str, RowsBySet], mean: truth_ratio.Mean, absent: Mapping[str, str]
) -> dict[str, Outcome]:
    """The four numbers of one set, each under ``set/number``."""
    numbers = ("probability", "rouge_l_recall", "truth_ratio", "value_accuracy")
    if name not in answered.get(role, {}):
        return dict.fromkeys((f"{name}/{number}" for number in numbers), _not_asked(role, name, answered, absent))
    rows = answered[role][name]
    lacking = sum(not row.perturbed for row in rows)
    no_wrong = f"{lacking} of {len(rows)} questions of set {name!r} have no wrong (perturbed) answers"
    chance: Outcome = no_wrong
    if not lacking or name not in probability.OPTION_SETS:
        chance = _finite(statistics.fmean(map(probability.row_probability, rows)))
    ratio: Outcome = no_wrong
    if not lacking:
        ratio = _finite(statistics.fmean(truth_ratio.row_truth_ratio(row, mean=mean) for row in rows))
    recall = statistics.fmean(map(rouge.row_rouge_l_recall, rows))
    accuracy = value_accuracy.value_accuracy(rows)
    no_value = f"no question of set {name!r} marks the words that carry its fact (value)"
    outcomes = (chance, recall, ratio, no_value if accuracy is None else accuracy)
    return {f"{name}/{number}": outcome for number, outcome in zip(numbers, outcomes, strict=True)}


def _not_asked(role: str, name: str, answered: Mapping[str, RowsBySet], absent: Mapping[str, str]) -> str:
    if role not in answered:
        return absent.get(role, f"there are no answers of the {role} model")
    return f"the {role} model did not answer set {name!r}"


def _model_utility(
    role: str, outcomes: Mapping[str, Outcome], answered: Mapping[str, RowsBySet], absent: Mapping[str, str]
) -> Outcome:
    if role not in answered:
        return absent.get(role, f"there are no answers of the {role} model")
    numbers = {name: outcome for name, outcome in outcomes.items() if not isinstance(outcome, str)}
    lacking = [name for name in model_utility.INPUTS if name not in numbers]
    if lacking:
        return f"it is made of nine numbers, of which these are missing: {', '.join(lacking)}"
    return model_utility.model_utility(numbers)


def _forget_quality(
    role: str, answered: Mapping[str, RowsBySet], mean: truth_ratio.Mean, absent: Mapping[str, str]
) -> dict[str, Outcome]:
    """p, log10 p, distance and rows of one role against the retain model."""
    names = [definition.name for definition in _FORGET_QUALITY_DEFINITIONS]
    ratios = []
    for side in (role, "retain"):
        if "forget" not in answered.get(side, {}):
            return dict.fromkeys(names, f"not measured: {_not_asked(side, 'forget', answered, absent)}")
        rows = answered[side]["forget"]
        if not all(row.perturbed for row in rows):
            reason = f"not measured: the {side} model's answers to the forget set lack wrong (perturbed) answers"
            return dict.fromkeys(names, reason)
        ratios.append([truth_ratio.row_log_truth_ratio(row, mean=mean) for row in rows])
        broken = sum(map(math.isnan, ratios[-1]))
        if broken:
            reason = f"not measured: {broken} of {len(rows)} truth ratios of the {side} model are not numbers"
            return dict.fromkeys(names, f"{reason}; did training diverge?")
    forget_quality.check_same_questions(answered[role]["forget"], answered["retain"]["forget"], names=(role, "retain"))
    result = forget_quality.forget_quality(*ratios)
    return dict(zip(names, (result.p, result.log10_p, result.distance, float(result.rows)), strict=True))


def _memo(role: str, scores: Scores | None, absent: Mapping[str, str]) -> dict[str, Outcome]:
    """Mean MEMO score of the true answers and of the inverted ones."""
    outcomes: dict[str, Outcome] = {}
    texts = [text for group in scores.values() for text in group] if scores is not None else []
    if len({(text.fact, text.kind, text.position) for text in texts}) < len(texts):
        raise UserError(
            f"the {role} model has several MEMO scores of one text; each must be given once: score it again"
        )
    for definition, kind in zip(MEMO_DEFINITIONS, ("answer", "candidate"), strict=True):
        chosen = [text.score for text in texts if text.kind == kind]
        what = "true answers" if kind == "answer" else "inverted answers"
        missing = absent.get(role, f"MEMO was not measured on the {role} model's {what}")
        outcomes[definition.name] = _finite(statistics.fmean(chosen)) if chosen else missing
    return outcomes
