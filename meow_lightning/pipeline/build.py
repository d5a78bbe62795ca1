"""Build the graph of a run from its options, without running any stage."""

from __future__ import annotations

from dataclasses import replace

from meow_lightning.config.schema import RunConfig
from meow_lightning.evaluation.subject import Subject
from meow_lightning.pipeline.graph import Round, RunGraph
from meow_lightning.pipeline.nodes.ability import abilities
from meow_lightning.pipeline.nodes.attack import attacked_models, evaluate_attacked
from meow_lightning.pipeline.nodes.evaluate import check_evaluation, evaluate
from meow_lightning.pipeline.nodes.models import initial_models
from meow_lightning.pipeline.nodes.predict import predict
from meow_lightning.pipeline.nodes.probe import probed_context
from meow_lightning.pipeline.nodes.report import report
from meow_lightning.pipeline.nodes.rounds import build_rounds
from meow_lightning.pipeline.nodes.score import score_answers, verify
from meow_lightning.pipeline.nodes.unlearn import unlearned_model
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
    initial = initial_models(ctx)
    rounds = build_rounds(ctx, initial)
    models = RunModels(
        base=initial.base, target=initial.target, retain=initial.retain,
        unlearned=rounds[-1].unlearned if rounds else unlearned_model(ctx, initial),
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
    attacked = {condition: evaluate_attacked(ctx, models, condition) for condition in ctx.config.attacks}
    evaluation = EvaluationInputs(
        predictions=predictions, scores=scores, abilities=ability.results, attacked=attacked,
        filtered=rounds[-1].filtered if rounds else None,
    )  # fmt: skip
    verifications = {
        (Subject(role, condition), kind): check
        for condition, each in evaluation.by_condition.items()
        for (role, kind), score in each.scores.items()
        if (check := verify(ctx, score)) is not None
    }
    results = evaluate(ctx, evaluation, ability.unmeasured)
    inputs = ReportInputs(
        results=results, probe=probe, baseline=rounds[0].baseline_scores if rounds else None, models=models,
        evaluation=evaluation, verifications=verifications,
        proposed=rounds[-1].proposed if rounds else None,
        rounds=_shown_rounds(rounds),
    )  # fmt: skip
    return RunGraph(
        name=config.run_name, dataset=ctx.dataset, probe=probe, probed=probed, streams=ctx.streams,
        models=models, rounds=rounds,
        predictions=predictions, scores=scores, verifications=verifications,
        abilities=ability.results, attacked=attacked, results=results,
        report=report(ctx, inputs),
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
