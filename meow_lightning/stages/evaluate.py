"""evaluate: compute the metrics from stored predictions and MEMO scores; no model runs, so it takes seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.examples import evaluated_examples
from meow_lightning.data.values.secrets import public_texts
from meow_lightning.evaluation.ability import AbilityResult, Unmeasured, with_ability
from meow_lightning.evaluation.attack_numbers import AttackNumber, read_numbers, with_attack_numbers
from meow_lightning.evaluation.checkpoint_selection import held_out, remaining_rows
from meow_lightning.evaluation.extraction import (
    Extraction,
    ExtractionValues,
    extraction_samples,
    extraction_values,
    with_extraction,
)
from meow_lightning.evaluation.layers import SET, LayerRow, Readings, layer_samples, with_layers
from meow_lightning.evaluation.predictions import by_set
from meow_lightning.evaluation.relearning import untrained_samples, with_untrained
from meow_lightning.evaluation.robustness import with_conditions
from meow_lightning.evaluation.sequence import SequenceScores, Served, sequence_scores, with_sequence
from meow_lightning.evaluation.sets import benchmark_from
from meow_lightning.evaluation.slim import Judged, slim_samples, with_slim
from meow_lightning.evaluation.subject import Subject, under_condition
from meow_lightning.evaluation.suite.bootstrap import Bootstrap, HeadlineSamples, headline_samples, interval_ends
from meow_lightning.evaluation.suite.inputs import SideInputs, metric_settings
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.evaluation.tofu_logs.reader import read_retain_aucs, read_retain_log
from meow_lightning.resources.requirements import Planner
from meow_lightning.stages.base import Stage, StageContext, UsedMetrics
from meow_lightning.stages.common.loading import check_unchanged, load_dataset, load_examples
from meow_lightning.stages.common.needs import EvaluationInputs
from meow_lightning.stages.common.sequence_needs import ServedInputs
from meow_lightning.stages.common.slim import judged_questions
from meow_lightning.stages.results.evaluate import EvaluateResult
from meow_lightning.stages.results.extract import ExtractResult
from meow_lightning.stages.results.filter import FilterResult
from meow_lightning.stages.results.inspect import InspectResult
from meow_lightning.stages.results.predict import PredictResult
from meow_lightning.stages.results.score import ScoreResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import digest
from meow_lightning.types import ROLES, AnswerRow, Results, Role, ScoredText

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
        complete = by_set(rows["target"])
        rows = {
            subject: remaining_rows(by_set(each), selection_fraction, complete=complete)
            for subject, each in rows.items()
        }
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


def readings(work: StageContext, stored: Mapping[tuple[Role, str], Path]) -> list[Readings]:
    """Read what attacks on hidden states found, without the questions that selected an epoch.

    Args:
        work: The stage's context; its settings are those of ``evaluate``.
        stored: The results of ``inspect``, by role and name of the attack.
    """
    fraction = work.settings.get("selection_fraction", 0.0)
    return [
        Readings(
            name=name, label=each["label"], attack=instantiate(each["attack"], allow=work.inputs["allow"]),
            rows={role: layer_rows(stored[role, name], fraction) for role in ROLES if (role, name) in stored},
        )
        for name, each in work.settings.get("layers", {}).items()
    ]  # fmt: skip


def layer_rows(folder: Path, selection_fraction: float) -> list[LayerRow]:
    """Read what an attack on hidden states found in one model, without the questions that selected an epoch.

    Args:
        folder: The result of ``inspect``.
        selection_fraction: Share of the questions that is left out.
    """
    rows = InspectResult.read(folder).rows
    left_out = held_out(SET, len(rows), selection_fraction)
    return [row for number, row in enumerate(rows) if number not in left_out]


def extracted(
    inputs: EvaluationInputs[Path], settings: Mapping[str, Any], *, allow: Iterable[str], selection_fraction: float
) -> list[Extraction]:
    """Read what the attacks that ask the models found.

    Args:
        inputs: The inputs of the metrics.
        settings: Options and label of every attack, by its name.
        allow: Further packages that an attack may be of.
        selection_fraction: Share of the facts that is left out because it was used to select an epoch.
    """
    found = []
    for name, chosen in settings.items():
        rows = {
            role: [*ExtractResult.read(path).rows] for (role, attack), path in inputs.extractions.items()
            if attack == name
        }  # fmt: skip
        left = held_out(chosen["set"], len(next(iter(rows.values()))), selection_fraction)
        counted = {
            role: [row for place, row in enumerate(each) if place not in left] for role, each in rows.items()
        }  # fmt: skip
        attack = instantiate(chosen["attack"], allow=allow)
        found.append(
            Extraction(
                name, chosen["label"], attack, rows=counted, set=chosen["set"], proposed=chosen.get("proposed", False)
            )
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    """What the stage reads from the store, each once.

    Attributes:
        stored: The results that it reads.
        rows: Prediction rows by subject.
        memo: MEMO scores by subject and kind.
        side: What metrics read besides.
        readings: What attacks on hidden states read.
        extractions: What attacks that ask found.
        probed: The questions of ``probe=slim`` by role, or the reason why a model has none.
    """

    stored: EvaluationInputs[Path]
    rows: Mapping[str, list[AnswerRow]]
    memo: Mapping[str, Mapping[str, list[ScoredText]]]
    side: SideInputs
    readings: Sequence[Readings]
    extractions: Sequence[Extraction]
    probed: Mapping[Role, Judged | str]

    @classmethod
    def read(cls, work: StageContext) -> _Inputs:
        """Read the inputs of the stage."""
        stored, fraction = EvaluationInputs.from_needs(work.needs), work.settings.get("selection_fraction", 0.0)
        inverted = FilterResult.read(stored.filtered).inverted if stored.filtered is not None else ()
        return cls(
            stored=stored, rows=answers(work, selection_fraction=fraction), memo=scores(stored),
            side=SideInputs(public=public_texts(load_examples(work, "retain")), inverted=inverted),
            readings=readings(work, stored.layers),
            extractions=extracted(
                stored, work.settings.get("extractions", {}), allow=work.inputs.get("allow", ()),
                selection_fraction=fraction,
            ),
            probed=judged_questions(work, stored.slim, selection_fraction=fraction),
        )  # fmt: skip


def _results(work: StageContext, inputs: _Inputs, values: ExtractionValues) -> Results:
    """Compute the metrics of the models themselves, and after every attack: each against its retain model."""
    settings, ability = work.settings, abilities(inputs.stored)
    labels = settings.get("attacks", {})
    unmeasured = [Unmeasured(**each) for each in settings.get("unmeasured", ())]
    extra = tuple(settings.get("extra_metrics", ()))
    examples = evaluated_examples(load_dataset(work)) if extra else {}
    found: dict[str, Results] = {}
    for condition in ("", *labels):
        absent = settings.get("absent", {}) | settings.get("unattacked", {}).get(condition, {})
        if condition and "retain_predictions" in settings:
            absent["retain"] = (
                "a log replaces the retain model (evaluation.retain_predictions), which no attack changes"
            )
        results = evaluate(
            under_condition(inputs.rows, condition), under_condition(inputs.memo, condition),
            truth_ratio_mean=settings["truth_ratio_mean"], absent=absent, protocol=settings.get("protocol", "none"),
            side_inputs=replace(
                inputs.side, retain_aucs={} if condition else logged_aucs(work), extra_metrics=extra,
                examples=examples,
            ),
            benchmark=benchmark_from(settings),
        )  # fmt: skip
        found[condition] = with_ability(
            results, under_condition(ability, condition), absent=absent, unmeasured=unmeasured
        )  # fmt: skip
    absent = settings.get("absent", {})
    found[""] = with_layers(found[""], inputs.readings, absent={**absent, **settings.get("layerless", {})})
    joined = with_attack_numbers(with_conditions(found, labels), _attack_numbers(inputs.stored))
    joined = with_untrained(joined, inputs.rows, settings.get("trained", {}))
    return with_slim(
        with_extraction(joined, inputs.extractions, values, absent=absent), inputs.probed, absent=absent
    )  # fmt: skip


def _attack_numbers(inputs: EvaluationInputs[Path]) -> dict[Subject, list[AttackNumber]]:
    """Read what attacks measured about the models, by attacked model."""
    return {
        Subject(role, condition): read_numbers(folder)
        for condition, stored in inputs.by_condition.items()
        for role, folder in stored.measured.items()
    }


def _samples(work: StageContext, inputs: _Inputs, values: ExtractionValues) -> dict[str, HeadlineSamples]:
    """Draw the bootstrap samples of the headline metrics, by subject."""
    settings = work.settings
    bootstrap = Bootstrap(bootstrap_samples=settings["bootstrap_samples"], seed=0)
    samples: dict[str, HeadlineSamples] = {}
    for condition in ("", *settings.get("attacks", {})):
        drawn = headline_samples(
            under_condition(inputs.rows, condition), under_condition(inputs.memo, condition),
            truth_ratio_mean=settings["truth_ratio_mean"], protocol=settings.get("protocol", "none"),
            bootstrap=bootstrap, benchmark=benchmark_from(settings), side_inputs=inputs.side,
        )  # fmt: skip
        samples |= {str(Subject(role, condition)): drawn[role] for role in ROLES if role in drawn}
    for more in (
        layer_samples(inputs.readings, bootstrap=bootstrap),
        untrained_samples(inputs.rows, settings.get("trained", {}), bootstrap=bootstrap),
        extraction_samples(values, inputs.extractions, bootstrap=bootstrap),
        slim_samples(inputs.probed, bootstrap=bootstrap),
    ):
        for subject, each in more.items():
            samples[subject] = samples.get(subject, HeadlineSamples({}, {})).joined(each)
    return samples


def _sequence(work: StageContext, inputs: _Inputs) -> list[SequenceScores]:
    """Compute the matrices of the requests to forget; empty for a run that forgets all facts at once."""
    stored, rows = inputs.stored.sequence, inputs.rows
    if stored is None:
        return []
    fraction = work.settings.get("selection_fraction", 0.0)

    def served(each: ServedInputs[Path]) -> Served:
        predicted = list(PredictResult.read(each.predictions).rows)
        counted = remaining_rows(by_set(predicted), fraction) if fraction else predicted
        return Served(rows=counted, memo=ScoreResult.read(each.scores).texts)

    def of_role(role: str) -> Served:
        return Served(rows=rows[role], memo=inputs.memo.get(role, {}).get("answers", ()))

    return sequence_scores(
        [of_role("target"), *map(served, stored.requests)], served(stored.joint),
        of_role("retain") if "retain" in rows else None, requests=work.settings["requests"],
        settings=metric_settings(
            truth_ratio_mean=work.settings["truth_ratio_mean"], protocol=work.settings.get("protocol", "none")
        ),
        benchmark=benchmark_from(work.settings),
    )  # fmt: skip


class Evaluate(Stage):
    """Compute the metrics."""

    name = "evaluate"
    version = 8
    after = ("filter", "score", "predict", "ability", "inspect", "extract", "slim", "judge")
    outputs = EvaluateResult.files
    quotes = False

    def metrics(self, settings: Mapping[str, Any], needs: Mapping[str, Artifact]) -> UsedMetrics:
        """Determine the metrics: all of them, on the predicted sets."""
        sets = {name for need in needs.values() if need.stage == "predict" for name in need.settings["sets"]}
        return UsedMetrics(sets, settings, only=None)

    def disk(self, artifact: Artifact, planner: Planner) -> int:
        """Estimate the bytes of every metric with its interval."""
        return METRICS_BYTES

    def run(self, work: StageContext) -> None:
        """Write the metrics, their confidence intervals over questions, and the bootstrap samples behind them."""
        inputs = _Inputs.read(work)
        values = extraction_values(inputs.extractions)
        results, samples, sequence = (
            _results(work, inputs, values), _samples(work, inputs, values), _sequence(work, inputs),
        )  # fmt: skip
        level = work.settings["confidence_level"]
        intervals = {subject: interval_ends(each, confidence_level=level) for subject, each in samples.items()}
        drawn = samples["unlearned"].drawn if "unlearned" in samples else {}
        EvaluateResult(with_sequence(results, sequence) if sequence else results, intervals, drawn, sequence).write(
            work.folder
        )
