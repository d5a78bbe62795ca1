"""The node `evaluate`: metrics under an evaluation protocol, and the log that may replace the retain model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meow_lightning.evaluation.ability import Unmeasured
from meow_lightning.evaluation.protocols.registry import check_protocol, counted_rows
from meow_lightning.evaluation.sets import BENCHMARK, benchmark_of
from meow_lightning.evaluation.tofu_logs.reader import read_retain_log
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.pipeline.nodes.predict import OWN_PROTOCOL
from meow_lightning.stages.common.needs import EvaluationInputs
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import digest as file_digest


def check_evaluation(ctx: BuildContext) -> None:
    """Check that the protocol fits the other options, and read the log that replaces the retain model.

    Raises:
        UserError: An option does not fit, or the log does not contain the expected predictions.
    """
    check_protocol(ctx.protocol, ctx.dataset, template=ctx.config.model.prompt.template)
    if ctx.retain_predictions is not None:
        facts = counted_rows(ctx.protocol, ctx.dataset.evaluation()["forget"])
        expected = [(fact.id, fact.question, fact.answer) for fact in facts]
        read_retain_log(Path(ctx.retain_predictions), expected, option="evaluation.retain_predictions")


def evaluate(ctx: BuildContext, inputs: EvaluationInputs[Artifact], unmeasured: Sequence[Unmeasured] = ()) -> Artifact:
    """Compute the metrics of all roles, with the reasons for ability tasks that cannot run."""
    evaluation = ctx.config.evaluation
    settings: dict[str, Any] = {
        "truth_ratio_mean": evaluation.truth_ratio_mean, "bootstrap_samples": evaluation.bootstrap_samples,
        "confidence_level": evaluation.confidence_level,
    }  # fmt: skip
    # A kept fact may state a forgotten value, which is then not a secret.
    settings["kept"] = ctx.facts_digest("retain", "answer", "alternatives", "phrasings")
    if ctx.protocol != OWN_PROTOCOL:
        settings["protocol"] = ctx.protocol
    if ctx.selection_fraction:
        settings["selection_fraction"] = ctx.selection_fraction
    if ctx.roles.retain_missing_reason is not None:
        settings["absent"] = {"retain": ctx.roles.retain_missing_reason}
    if ctx.retain_predictions is not None:
        settings["retain_predictions"] = file_digest(Path(ctx.retain_predictions))
    benchmark = benchmark_of([each.info for each in ctx.dataset.evaluation().values()])
    if benchmark != BENCHMARK:
        settings["benchmark"] = [[info.name, info.purpose, info.scoring] for info in benchmark]
    if inputs.attacked:
        settings["attacks"] = {name: ctx.config.attacks[name].label for name in inputs.attacked}
    if unmeasured:
        settings["unmeasured"] = [each.stored() for each in unmeasured]
    return ctx.artifact("evaluate", "", settings, inputs.to_needs())
