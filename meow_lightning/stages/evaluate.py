"""evaluate: compute the metrics from stored predictions and MEMO scores; no model runs, so it takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from meow_lightning.data.values.secrets import public_texts
from meow_lightning.evaluation.ability import AbilityResult, Unmeasured, with_ability
from meow_lightning.evaluation.checkpoint_selection import remaining_rows
from meow_lightning.evaluation.predictions import by_set
from meow_lightning.evaluation.robustness import with_conditions
from meow_lightning.evaluation.sets import benchmark_from
from meow_lightning.evaluation.subject import Subject, under_condition
from meow_lightning.evaluation.suite.bootstrap import HeadlineSamples, headline_samples, interval_ends
from meow_lightning.evaluation.suite.inputs import SideInputs
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.evaluation.tofu_logs.reader import read_retain_aucs, read_retain_log
from meow_lightning.resources.requirements import Planner
from meow_lightning.stages.base import Stage, StageContext, UsedMetrics
from meow_lightning.stages.common.loading import check_unchanged, load_examples
from meow_lightning.stages.common.needs import EvaluationInputs
from meow_lightning.stages.results.evaluate import EvaluateResult
from meow_lightning.stages.results.filter import FilterResult
from meow_lightning.stages.results.predict import PredictResult
from meow_lightning.stages.results.score import ScoreResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import digest
from meow_lightning.types import ROLES, AnswerRow, Results, ScoredText

METRICS_BYTES = 40_000  # measured on the default run


def answers(work: StageContext, *, selection_fraction: float) -> dict[str, list[AnswerRow]]:
    """Read the predictions by subject: the stored ones, and those of a log that replaces the retain model.

    Args:
        work: The stage's context.
        selection_fraction: Share of every set that is left out because it was used to select an epoch.
    """
    rows: dict[str, list[AnswerRow]] = {}
    for condition, stored in EvaluationInputs.from_needs(work.needs).by_condition.items():
        for role, path in stored.predictions.items():
            rows[str(Subject(role, condition))] = list(PredictResult.read(path).rows)
    log = work.inputs.get("retain_predictions")
    if log is not None:
        if "retain_predictions" in work.settings:
            check_unchanged(
                f"evaluation.retain_predictions={log}", digest(Path(log)), work.settings["retain_predictions"]
            )
        questions = [(row.fact, row.question, row.answer) for row in by_set(rows["target"])["forget"]]
        rows["retain"] = read_retain_log(Path(log), questions, option="evaluation.retain_predictions")
    if selection_fraction:
        rows = {role: remaining_rows(by_set(each), selection_fraction) for role, each in rows.items()}
    return rows


def logged_aucs(work: StageContext) -> dict[str, float]:
    """Read the AUCs that a log of the retain model holds under the protocol of this run; none under another protocol.

    Args:
        work: The stage's context.
    """
    log = work.inputs.get("retain_predictions")
    if log is None or work.settings.get("protocol") != "open_unlearning":
        return {}
    return read_retain_aucs(Path(log), option="evaluation.retain_predictions")


def scores(inputs: EvaluationInputs[Path]) -> dict[str, dict[str, list[ScoredText]]]:
    """Read the MEMO scores by subject and kind."""
    found: dict[str, dict[str, list[ScoredText]]] = {}
    for condition, stored in inputs.by_condition.items():
        for (role, kind), folder in stored.scores.items():
            found.setdefault(str(Subject(role, condition)), {})[kind] = list(ScoreResult.read(folder).texts)
    return found


def abilities(inputs: EvaluationInputs[Path]) -> dict[str, list[AbilityResult]]:
    """Read the results of ability tasks by subject."""
    found: dict[str, list[AbilityResult]] = {}
    for condition, stored in inputs.by_condition.items():
        for (role, _), folder in stored.abilities.items():
            found.setdefault(str(Subject(role, condition)), []).append(AbilityResult.read(folder))
    return found


def _side_inputs(work: StageContext) -> SideInputs:
    """Read the public texts and the inverted facts."""
    filtered = EvaluationInputs.from_needs(work.needs).filtered
    inverted = FilterResult.read(filtered).inverted if filtered is not None else ()
    return SideInputs(public=public_texts(load_examples(work, "retain")), inverted=inverted)


def _results(
    work: StageContext,
    rows: Mapping[str, list[AnswerRow]],
    memo: Mapping[str, Mapping[str, list[ScoredText]]],
    side: SideInputs,
) -> Results:
    """Compute the metrics of the models themselves, and after every attack: each against its retain model."""
    settings, ability = work.settings, abilities(EvaluationInputs.from_needs(work.needs))
    labels = settings.get("attacks", {})
    unmeasured = [Unmeasured(**each) for each in settings.get("unmeasured", ())]
    found: dict[str, Results] = {}
    for condition in ("", *labels):
        absent = dict(settings.get("absent", {}))
        if condition and "retain_predictions" in settings:
            absent["retain"] = (
                "a log replaces the retain model (evaluation.retain_predictions), which no attack changes"
            )
        results = evaluate(
            under_condition(rows, condition), under_condition(memo, condition),
            truth_ratio_mean=settings["truth_ratio_mean"], absent=absent, protocol=settings.get("protocol", "none"),
            side_inputs=replace(side, retain_aucs={} if condition else logged_aucs(work)),
            benchmark=benchmark_from(settings),
        )  # fmt: skip
        found[condition] = with_ability(
            results, under_condition(ability, condition), absent=absent, unmeasured=unmeasured
        )  # fmt: skip
    return with_conditions(found, labels)


def _samples(
    work: StageContext,
    rows: Mapping[str, list[AnswerRow]],
    memo: Mapping[str, Mapping[str, list[ScoredText]]],
    side: SideInputs,
) -> dict[str, HeadlineSamples]:
    """Draw the bootstrap samples of the headline metrics, by subject."""
    settings = work.settings
    samples: dict[str, HeadlineSamples] = {}
    for condition in ("", *settings.get("attacks", {})):
        drawn = headline_samples(
            under_condition(rows, condition), under_condition(memo, condition),
            truth_ratio_mean=settings["truth_ratio_mean"], protocol=settings.get("protocol", "none"),
            bootstrap_samples=settings["bootstrap_samples"], seed=0, benchmark=benchmark_from(settings),
            side_inputs=side,
        )  # fmt: skip
        samples |= {str(Subject(role, condition)): drawn[role] for role in ROLES if role in drawn}
    return samples


class Evaluate(Stage):
    """Compute the metrics."""

    name = "evaluate"
    version = 7
    after = ("filter", "score", "predict", "ability")
    outputs = EvaluateResult.files

    def metrics(self, settings: Mapping[str, Any], needs: Mapping[str, Artifact]) -> UsedMetrics:
        """Determine the metrics: all of them, on the predicted sets."""
        sets = {name for need in needs.values() if need.stage == "predict" for name in need.settings["sets"]}
        return UsedMetrics(sets, settings, only=None)

    def disk(self, artifact: Artifact, planner: Planner) -> int:
        """Estimate the bytes of every metric with its interval."""
        return METRICS_BYTES

    def run(self, work: StageContext) -> None:
        """Write the metrics, their confidence intervals over questions, and the bootstrap samples behind them."""
        rows = answers(work, selection_fraction=work.settings.get("selection_fraction", 0.0))
        memo = scores(EvaluationInputs.from_needs(work.needs))
        side = _side_inputs(work)
        results, samples = _results(work, rows, memo, side), _samples(work, rows, memo, side)
        level = work.settings["confidence_level"]
        intervals = {subject: interval_ends(each, confidence_level=level) for subject, each in samples.items()}
        drawn = samples["unlearned"].drawn if "unlearned" in samples else {}
        EvaluateResult(results, intervals, draws=drawn).write(work.folder)
