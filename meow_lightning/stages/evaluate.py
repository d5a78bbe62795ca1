"""evaluate: compute the metrics from stored predictions and MEMO scores; no model runs, so it takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meow_lightning.data.values.secrets import public_texts
from meow_lightning.evaluation.ability import AbilityResult, Unmeasured, with_ability
from meow_lightning.evaluation.checkpoint_selection import remaining_rows
from meow_lightning.evaluation.predictions import by_set
from meow_lightning.evaluation.sets import benchmark_from
from meow_lightning.evaluation.suite.bootstrap import headline_samples, interval_ends
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.evaluation.tofu_logs.reader import read_retain_log
from meow_lightning.resources.requirements import Planner
from meow_lightning.stages.base import Stage, StageContext, UsedMetrics
from meow_lightning.stages.common.loading import check_unchanged, load_examples
from meow_lightning.stages.common.needs import EvaluationInputs
from meow_lightning.stages.results.evaluate import EvaluateResult
from meow_lightning.stages.results.predict import PredictResult
from meow_lightning.stages.results.score import ScoreResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import digest
from meow_lightning.types import AnswerRow, ScoredText

METRICS_BYTES = 40_000  # measured on the default run


def answers(work: StageContext, *, selection_fraction: float) -> dict[str, list[AnswerRow]]:
    """Read the predictions by role: the stored ones, and those of a log that replaces the retain model.

    Args:
        work: The stage's context.
        selection_fraction: Share of every set that is left out because it was used to select an epoch.
    """
    stored = EvaluationInputs.from_needs(work.needs).predictions
    rows: dict[str, list[AnswerRow]] = {role: list(PredictResult.read(path).rows) for role, path in stored.items()}
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


def scores(inputs: EvaluationInputs[Path]) -> dict[str, dict[str, list[ScoredText]]]:
    """Read the MEMO scores by role and kind."""
    by_role: dict[str, dict[str, list[ScoredText]]] = {}
    for (role, kind), folder in inputs.scores.items():
        by_role.setdefault(role, {})[kind] = list(ScoreResult.read(folder).texts)
    return by_role


def abilities(inputs: EvaluationInputs[Path]) -> dict[str, list[AbilityResult]]:
    """Read the results of ability tasks by role."""
    by_role: dict[str, list[AbilityResult]] = {}
    for (role, _), folder in inputs.abilities.items():
        by_role.setdefault(role, []).append(AbilityResult.read(folder))
    return by_role


class Evaluate(Stage):
    """Compute the metrics."""

    name = "evaluate"
    version = 6
    after = ("score", "predict", "ability")
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
        inputs = EvaluationInputs.from_needs(work.needs)
        memo, mean = scores(inputs), work.settings["truth_ratio_mean"]
        protocol = work.settings.get("protocol", "none")
        results = evaluate(
            rows, memo, truth_ratio_mean=mean, absent=work.settings.get("absent", {}), protocol=protocol,
            public=public_texts(load_examples(work, "retain")), benchmark=benchmark_from(work.settings),
        )  # fmt: skip
        results = with_ability(
            results, abilities(inputs), absent=work.settings.get("absent", {}),
            unmeasured=[Unmeasured(**each) for each in work.settings.get("unmeasured", ())],
        )  # fmt: skip
        samples = headline_samples(
            rows, memo, truth_ratio_mean=mean, protocol=protocol, bootstrap_samples=work.settings["bootstrap_samples"],
            seed=0, benchmark=benchmark_from(work.settings),
        )  # fmt: skip
        intervals = interval_ends(samples, confidence_level=work.settings["confidence_level"])
        EvaluateResult(results, intervals, draws=samples.get("unlearned", {})).write(work.folder)
