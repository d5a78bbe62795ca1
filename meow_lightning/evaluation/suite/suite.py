"""All metrics of one run from stored predictions and MEMO scores: arithmetic only, seconds on a CPU."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from meow_lightning.data.words import Words
from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics import forget_quality, knowledge, model_utility
from meow_lightning.evaluation.metrics.truth_ratio import Mean
from meow_lightning.evaluation.protocols.registry import ProtocolName
from meow_lightning.evaluation.suite.inputs import ROLES, SETS, Answers, check_roles, collect_answers
from meow_lightning.evaluation.suite.leakage import DEFINITIONS as LEAKAGE_DEFINITIONS
from meow_lightning.evaluation.suite.leakage import leakage_outcomes
from meow_lightning.evaluation.suite.membership import DEFINITIONS as MEMBERSHIP_DEFINITIONS
from meow_lightning.evaluation.suite.membership import membership_outcomes
from meow_lightning.evaluation.suite.per_set import (
    Outcome,
    RowValues,
    finite,
    mean_of,
    row_values,
    set_definitions,
    set_outcomes,
    with_mean,
    with_protocol,
)
from meow_lightning.types import AnswerRow, Definition, Results, ScoredText

__all__ = ["ROLES", "SETS", "evaluate", "forget_log_ratios", "memo_scores", "results_from_json", "results_to_json"]

Scores = Mapping[str, list[ScoredText]]

MEMO_DEFINITIONS = (
    Definition(
        name="memo/answers",
        id="memo_answers.1",
        unit="score",
        direction="lower",
        text="Mean MEMO score of the true answers of the forget set: how strongly the model has memorized them.",
    ),
    Definition(
        name="memo/candidates",
        id="memo_candidates.1",
        unit="score",
        direction="none",
        text="Mean MEMO score of the inverted answers: how strongly the model has memorized answers that contradict "
        "the forget set.",
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
    protocol: str = "none",
    words: Words = "unicode",
    public: Sequence[str] = (),
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
        public: Answers of retained facts that were not evaluated; they never count as leaks.

    Raises:
        UserError: Unknown role or mean, an incomplete set, or models that answered different questions.
    """
    answers = collect_answers(
        rows, truth_ratio_mean=truth_ratio_mean, absent=absent or {}, protocol=protocol, words=words
    )
    check_roles(memo)
    defined = definitions(answers.names, mean=answers.mean, protocol=answers.protocol)
    results = Results(definitions=defined, values={}, missing={})
    for role in ROLES:
        outcomes: dict[str, Outcome] = {}
        for name in answers.names:
            outcomes |= set_outcomes(answers, role, name)
        outcomes["model_utility"] = _model_utility(answers, role, outcomes)
        outcomes |= _forget_quality(answers, role)
        outcomes |= leakage_outcomes(answers, role, public)
        outcomes |= membership_outcomes(answers, role)
        outcomes[knowledge.DEFINITION.name] = _facts_known(answers, role)
        outcomes |= _memo(role, memo.get(role), answers.absent)
        results.values[role] = {name: value for name, value in outcomes.items() if not isinstance(value, str)}
        results.missing[role] = {name: reason for name, reason in outcomes.items() if isinstance(reason, str)}
    return results


def results_to_json(results: Results) -> dict[str, Any]:
    """Convert results to plain dictionaries, lists, strings and finite numbers.

    Args:
        results: Result of :func:`evaluate`.
    """
    return dataclasses.asdict(results)


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
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"the stored results do not match this version ({error!r}): expected definitions, values and missing; run "
            "the stage `evaluate` again"
        ) from error


def forget_log_ratios(answers: Answers, role: str) -> list[float] | str:
    """Compute ``log R`` of one model on every forget question, or the reason why it cannot be compared.

    Args:
        answers: Answers of all models.
        role: Role of the model.
    """
    if reason := answers.missing_reason(role, "forget"):
        return f"not measured: {reason}"
    rows = answers.sets[role]["forget"]
    if not all(row.perturbed for row in rows):
        return f"not measured: the {role} model's predictions on the forget set have no wrong (perturbed) answers"
    ratios = list(map(answers.log_ratio, rows))
    if invalid := sum(map(math.isnan, ratios)):
        reason = f"{invalid} of {len(rows)} truth ratios of the {role} model are NaN"
        return f"not measured: {reason}; did training diverge?"
    return ratios


def memo_scores(role: str, scores: Scores | None, kind: str) -> list[float]:
    """List the MEMO scores of one model's true or inverted answers; empty if none were computed.

    Args:
        role: Role of the model, for the message.
        scores: Its MEMO scores in any grouping.
        kind: ``answer`` or ``candidate``.

    Raises:
        UserError: A text was scored more than once.
    """
    texts = [text for group in scores.values() for text in group] if scores is not None else []
    if len({(text.fact, text.kind, text.position) for text in texts}) < len(texts):
        raise UserError(
            f"MEMO scores of the {role} model are invalid: expected one per text; run the stage `score` again"
        )
    return [text.score for text in texts if text.kind == kind]


def definitions(names: Sequence[str], *, mean: Mean, protocol: ProtocolName) -> tuple[Definition, ...]:
    """List the definitions of all metrics, in reporting order.

    Args:
        names: Evaluation sets.
        mean: How the truth ratio averages wrong answers.
        protocol: One of :data:`~meow_lightning.evaluation.protocols.registry.PROTOCOL_NAMES`.
    """
    sets = [definition for name in names for definition in set_definitions(name, mean)]
    *quality, rows = _FORGET_QUALITY_DEFINITIONS
    from_predictions = (
        *sets,
        with_mean(model_utility.DEFINITION, mean),
        knowledge.DEFINITION,
        *(with_mean(definition, mean) for definition in quality),
        rows,
        *LEAKAGE_DEFINITIONS,
        *MEMBERSHIP_DEFINITIONS,
    )
    return (*(with_protocol(definition, protocol) for definition in from_predictions), *MEMO_DEFINITIONS)


def _model_utility(answers: Answers, role: str, outcomes: Mapping[str, Outcome]) -> Outcome:
    if reason := answers.missing_reason(role, None):
        return reason
    numbers = {name: outcome for name, outcome in outcomes.items() if not isinstance(outcome, str)}
    missing = [name for name in model_utility.INPUTS if name not in numbers]
    if missing:
        return f"it combines nine metrics, of which these are missing: {', '.join(missing)}"
    return model_utility.model_utility(numbers)


def _forget_quality(answers: Answers, role: str) -> dict[str, Outcome]:
    """Compute forget quality of one role against the retain model: p, log10 p, distance and rows."""
    names = [definition.name for definition in _FORGET_QUALITY_DEFINITIONS]
    ratios = []
    for side in (role, "retain"):
        log_ratios = forget_log_ratios(answers, side)
        if isinstance(log_ratios, str):
            return dict.fromkeys(names, log_ratios)
        ratios.append(log_ratios)
    forget_rows = [answers.sets[side]["forget"] for side in (role, "retain")]
    forget_quality.check_same_questions(*forget_rows, names=(role, "retain"))
    result = forget_quality.forget_quality(*ratios)
    return dict(zip(names, (result.p, result.log10_p, result.distance, float(result.rows)), strict=True))


def knowledge_pairs(answers: Answers) -> list[tuple[RowValues, RowValues]]:
    """Pair per-question values of the target model and of one that cannot know the facts, for each knowledge metric.

    Args:
        answers: Answers of all models.
    """
    forget_rows, marked = answers.sets["target"]["forget"], row_values(answers, "target", "forget/value_accuracy")
    if answers.missing_reason("retain", "forget"):
        if not isinstance(marked, str):
            return [(marked, knowledge.echoed_values(forget_rows))]
        return [(row_values(answers, "target", "forget/rouge_l_recall"), list(knowledge.echo(forget_rows)))]
    names = [f"forget/{kind}" for kind in (knowledge.KINDS if isinstance(marked, str) else ("value_accuracy",))]
    return [(row_values(answers, "target", name), row_values(answers, "retain", name)) for name in names]


def _facts_known(answers: Answers, role: str) -> Outcome:
    """Compute the largest gain of the target model over one that cannot know the facts."""
    if reason := answers.missing_reason(role, "forget"):
        return reason
    if role != "target":
        return "it is measured on the target model only, before unlearning"
    gains = []
    for pair in knowledge_pairs(answers):
        target, ignorant = (values if isinstance(values, str) else mean_of(values) for values in pair)
        if not isinstance(target, str) and not isinstance(ignorant, str):
            gains.append(knowledge.gain(target, ignorant))
    defined = [gain for gain in gains if gain is not None]
    return max(defined) if defined else "the model to compare with gives every true answer, or could not be measured"


def _memo(role: str, scores: Scores | None, absent: Mapping[str, str]) -> dict[str, Outcome]:
    """Compute the mean MEMO scores of the true and of the inverted answers."""
    outcomes: dict[str, Outcome] = {}
    for definition, kind in zip(MEMO_DEFINITIONS, ("answer", "candidate"), strict=True):
        kind_scores = memo_scores(role, scores, kind)
        texts = "true answers" if kind == "answer" else "inverted answers"
        missing = absent.get(role, f"the {texts} have no MEMO scores of the {role} model")
        outcomes[definition.name] = finite(statistics.fmean(kind_scores)) if kind_scores else missing
    return outcomes
