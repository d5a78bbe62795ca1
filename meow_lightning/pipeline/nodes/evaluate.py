"""The node `evaluate`: metrics under an evaluation protocol, and the log that may replace the retain model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meow_lightning.data.requests import Request
from meow_lightning.errors import check_choice
from meow_lightning.evaluation.ability import Unmeasured
from meow_lightning.evaluation.metrics import optional_metrics
from meow_lightning.evaluation.protocols.registry import check_protocol, counted_rows
from meow_lightning.evaluation.sets import BENCHMARK, benchmark_of
from meow_lightning.evaluation.tofu_logs.reader import read_retain_log
from meow_lightning.pipeline.nodes.attack import (
    attack_labels,
    extraction_settings,
    irreplaceable,
    partly_relearned,
)
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.pipeline.nodes.inspect import layerless
from meow_lightning.pipeline.nodes.predict import OWN_PROTOCOL
from meow_lightning.pipeline.nodes.slim import slim_settings
from meow_lightning.stages.common.needs import EvaluationInputs
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import digest as file_digest


def check_evaluation(ctx: BuildContext) -> None:
    """Check that the protocol fits the other options, and read the log that replaces the retain model.

    Raises:
        UserError: An option does not fit, or the log does not contain the expected predictions.
    """
    check_protocol(ctx.protocol, ctx.dataset, template=ctx.config.model.prompt.template)
    for name in ctx.config.evaluation.extra_metrics:
        check_choice("evaluation.extra_metrics", name, optional_metrics())
    if ctx.retain_predictions is not None:
        facts = counted_rows(ctx.protocol, ctx.dataset.evaluation()["forget"])
        expected = [(fact.id, fact.question, fact.answer) for fact in facts]
        read_retain_log(Path(ctx.retain_predictions), expected, option="evaluation.retain_predictions")


def evaluate(
    ctx: BuildContext, inputs: EvaluationInputs[Artifact], unmeasured: Sequence[Unmeasured] = (),
    requests: Sequence[Request] = (),
) -> Artifact:  # fmt: skip
    """Compute the metrics of all roles, with the reasons for ability tasks that cannot run.

    Args:
        ctx: The run.
        inputs: The results to compute them from.
        unmeasured: Ability tasks that cannot run.
        requests: The requests to forget that arrive one after another, if they do.
    """
    evaluation = ctx.config.evaluation
    settings: dict[str, Any] = {
        "truth_ratio_mean": evaluation.truth_ratio_mean, "bootstrap_samples": evaluation.bootstrap_samples,
        "confidence_level": evaluation.confidence_level,
    }  # fmt: skip
    # A kept fact may state a forgotten value, which is then not a secret.
    settings["kept"] = ctx.facts_digest("retain", "answer", "alternatives", "phrasings")
    if ctx.protocol != OWN_PROTOCOL:
        settings["protocol"] = ctx.protocol
    if evaluation.extra_metrics:
        settings["extra_metrics"] = sorted(set(evaluation.extra_metrics))
    if ctx.selection_fraction:
        settings["selection_fraction"] = ctx.selection_fraction
    if ctx.roles.retain_missing_reason is not None:
        settings["absent"] = {"retain": ctx.roles.retain_missing_reason}
    if ctx.retain_predictions is not None:
        settings["retain_predictions"] = file_digest(Path(ctx.retain_predictions))
    benchmark = benchmark_of([each.info for each in ctx.dataset.evaluation().values()])
    if benchmark != BENCHMARK:
        settings["benchmark"] = [[info.name, info.purpose, info.scoring] for info in benchmark]
    settings |= _without_wrong_answers(ctx) | _attacks(ctx, inputs) | slim_settings(ctx)
    if inputs.extractions:
        settings["extractions"] = extraction_settings(ctx, inputs.extractions)
    if unmeasured:
        settings["unmeasured"] = [each.stored() for each in unmeasured]
    if requests:
        settings["requests"] = [list(each.facts) for each in requests]
    return ctx.artifact("evaluate", "", settings, inputs.to_needs())


def _without_wrong_answers(ctx: BuildContext) -> dict[str, Any]:
    """Count the questions without wrong answers in sets where others have some; empty if there are none.

    Metrics leave them out; an earlier version left the metrics out.
    """
    sets = ctx.dataset.evaluation()
    bare = {name: sum(not each.perturbed for each in examples) for name, examples in sets.items()}
    partial = {name: count for name, count in bare.items() if 0 < count < len(sets[name])}
    return {"without_wrong_answers": partial} if partial else {}


def _attacks(ctx: BuildContext, inputs: EvaluationInputs[Artifact]) -> dict[str, Any]:
    """Describe what the numbers about attacks depend on; empty without attacks."""
    settings: dict[str, Any] = {}
    if inputs.attacked:
        labels = attack_labels(ctx)
        settings["attacks"] = {name: labels[name] for name in inputs.attacked}
        unreached = {name: why for name in inputs.attacked if (why := irreplaceable(ctx, ctx.attacks[name]))}
        if unreached:
            settings["unattacked"] = unreached
    if trained := partly_relearned(ctx):
        settings["trained"] = trained
    if inputs.layers:
        settings["layers"] = _layer_attacks(ctx, inputs)
        if absent := layerless(ctx):
            settings["layerless"] = absent
    return settings


def _layer_attacks(ctx: BuildContext, inputs: EvaluationInputs[Artifact]) -> dict[str, Any]:
    """Describe the attacks on hidden states, whose arithmetic is part of the metrics, by name."""
    attacks = {name: ctx.attacks[name] for _, name in inputs.layers}
    return {
        name: {"attack": each.config.keyed, "version": each.attack.version, "label": each.config.label}
        for name, each in attacks.items()
    }
