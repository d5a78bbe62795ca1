"""Build the graph of a run from its options, without running any stage."""

from __future__ import annotations

from dataclasses import replace

from meow_lightning.config.schema import RunConfig
from meow_lightning.evaluation.subject import Subject
from meow_lightning.pipeline.graph import Round, RunGraph
from meow_lightning.pipeline.nodes.ability import abilities
from meow_lightning.pipeline.nodes.attack import attacked_models, conditions, evaluate_attacked, extractions
from meow_lightning.pipeline.nodes.evaluate import check_evaluation, evaluate
from meow_lightning.pipeline.nodes.inspect import inspected_layers
from meow_lightning.pipeline.nodes.models import initial_models
from meow_lightning.pipeline.nodes.predict import predict
from meow_lightning.pipeline.nodes.probe import probed_context
from meow_lightning.pipeline.nodes.report import report
from meow_lightning.pipeline.nodes.requests import JOINT, requests_of, serve, unlearn_in_rounds
from meow_lightning.pipeline.nodes.score import score_answers, verify
from meow_lightning.pipeline.nodes.slim import slim_answers
from meow_lightning.stages.common.needs import EvaluationInputs, ReportInputs, RoundInputs, RunModels, Scored
from meow_lightning.store.artifact import Artifact


def graph(config: RunConfig) -> RunGraph:
    """Build the graph of a run from its options; the only input it reads is the dataset.

    Where the splits of the dataset depend on what the target model answers, its answers are read from the store; before
    they are there, the graph is that of the largest splits possible.

    Raises:
        UserError: An option is invalid.
    """
    ctx, probe, probed = probed_context(config)
    check_evaluation(ctx)
    initial, requests = initial_models(ctx), requests_of(ctx)
    rounds, joint = unlearn_in_rounds(replace(ctx, label=JOINT) if requests else ctx, initial)
    sequence = serve(ctx, initial, requests, joint)
    models = RunModels(
        base=initial.base, target=initial.target, retain=initial.retain,
        unlearned=sequence.requests[-1].model if sequence else joint,
    )  # fmt: skip
    models = replace(models, attacked=attacked_models(ctx, models.by_role))
    predictions = {role: predict(ctx, role, model) for role, model in models.by_role.items()}
    ctx.check_windows("answer", lambda fact: (fact.answer,))
    scores: dict[Scored, Artifact] = {
        (role, "answers"): score_answers(ctx, f"{role} answers", model) for role, model in models.by_role.items()
    }
    if rounds:
        scores["target", "candidates"] = rounds[0].candidate_scores
    ability = abilities(ctx, models.by_role, target=models.target)
    evaluation = EvaluationInputs(
        predictions=predictions, scores=scores, abilities=ability.results,
        extractions=extractions(ctx, models.by_role), layers=inspected_layers(ctx, models.by_role),
        slim=slim_answers(ctx, models.by_role), sequence=sequence,
        attacked={condition: evaluate_attacked(ctx, models, condition) for condition in conditions(ctx)},
        filtered=rounds[-1].filtered if rounds else None,
    )  # fmt: skip
    verifications = {
        (Subject(role, condition), kind): check
        for condition, each in evaluation.by_condition.items()
        for (role, kind), score in each.scores.items()
        if (check := verify(ctx, score)) is not None
    }
    results = evaluate(ctx, evaluation, ability.unmeasured, requests)
    inputs = ReportInputs(
        results=results, probe=probe, baseline=rounds[0].baseline_scores if rounds else None, models=models,
        evaluation=evaluation, verifications=verifications,
        proposed=rounds[-1].proposed if rounds else None,
        rounds=_shown_rounds(rounds),
    )  # fmt: skip
    return RunGraph(
        name=config.run_name, dataset=ctx.dataset, probe=probe, probed=probed, streams=ctx.streams,
        models=models, rounds=rounds, evaluation=evaluation, verifications=verifications, results=results,
        report=report(ctx, inputs, requests),
    )  # fmt: skip


def _shown_rounds(rounds: tuple[Round, ...]) -> tuple[RoundInputs[Artifact], ...]:
    """Select the results that the report shows of each round; empty for a method that does not repeat."""
    return tuple(
        RoundInputs(
            proposed=each.proposed, filtered=each.filtered, unlearned=each.unlearned, scores=each.scores,
            verification=each.verification,
        )
        for each in rounds
        if each.scores is not None
    )  # fmt: skip
