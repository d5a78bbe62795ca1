"""The rounds of a method that trains on inverted facts: propose, filter, score, unlearn; and again where it repeats.

All rounds are in the graph from the start, so keys, plans and stores work as for any other run. A round without new
facts costs nothing: it carries over the previous round's model, scores and predictions.
"""

from __future__ import annotations

from meow_lightning.data.streams.resolve import check_streams
from meow_lightning.errors import UserError, invalid_option
from meow_lightning.inversion.base import Writer
from meow_lightning.pipeline.graph import Round
from meow_lightning.pipeline.nodes.context import BuildContext, Repetition
from meow_lightning.pipeline.nodes.inverted_facts import filter_replies, propose
from meow_lightning.pipeline.nodes.models import InitialModels, base_model
from meow_lightning.pipeline.nodes.predict import predict_under_own_protocol
from meow_lightning.pipeline.nodes.score import cut_every, score_answers, score_candidates, verify
from meow_lightning.pipeline.nodes.unlearn import unlearn
from meow_lightning.store.artifact import Artifact


def build_rounds(ctx: BuildContext, models: InitialModels) -> tuple[Round, ...]:
    """Build the rounds: one for a method that does not repeat, none for a method without inverted facts.

    Raises:
        UserError: The options of the method, of the source of inverted facts or of the measure do not fit each other.
    """
    writer = ctx.writer
    if writer is None:
        return ()
    check_streams(ctx.streams, ctx.dataset, method=ctx.method_name)
    _check_select(ctx)
    if ctx.repetition is not None:
        _check_repetition(ctx, ctx.repetition, writer)
    if writer.reads_other_facts:
        ctx.check_windows("candidate", lambda fact: fact.inverted)
    rounds: list[Round] = []
    for _ in range(ctx.repetition.count if ctx.repetition else 1):
        rounds.append(_round(ctx, models, writer, rounds))
    return tuple(rounds)


def _round(ctx: BuildContext, models: InitialModels, writer: type[Writer], earlier: list[Round]) -> Round:
    repetition, previous, number = ctx.repetition, earlier[-1] if earlier else None, len(earlier) + 1
    last = repetition is None or number == repetition.count
    label = f"{ctx.prefix}round {number}" if repetition else ctx.prefix.strip()
    name = ctx.label if last else label
    proposed = propose(ctx, label, writer, previous)
    filtered = filter_replies(ctx, label, proposed, previous)
    candidate_scores = score_candidates(
        ctx,
        f"target candidates {label}".strip(),
        models.target,
        filtered,
        previous=previous.filtered if previous else None,
    )
    selection = {"filtered": filtered, "candidate_scores": candidate_scores}
    baseline_scores = _baseline_scores(ctx, label, models, filtered, previous)
    if baseline_scores is not None:
        selection["baseline_scores"] = baseline_scores
    if previous is not None:
        selection["previous"] = previous.unlearned
    unlearned = unlearn(ctx, name, models, selection)
    scores = verification = predictions = None
    if repetition is not None:
        scores = score_answers(
            ctx,
            f"{name} memorization",
            unlearned,
            cut_unit=repetition.cut_unit,
            previous=previous.scores if previous else None,
        )
        verification = verify(ctx, scores)
    if not last:
        predictions = predict_under_own_protocol(
            ctx, name, unlearned, ("forget",), previous=previous.predictions if previous else None
        )
    return Round(
        proposed=proposed, filtered=filtered, candidate_scores=candidate_scores, baseline_scores=baseline_scores,
        unlearned=unlearned, scores=scores, verification=verification, predictions=predictions,
    )  # fmt: skip


def _baseline_scores(
    ctx: BuildContext, label: str, models: InitialModels, filtered: Artifact, previous: Round | None
) -> Artifact | None:
    """Score the new inverted facts on the model of ``method.select.baseline``; ``None`` without one.

    Raises:
        UserError: The run has no such model.
    """
    name = ctx.select.baseline
    if name == "none":
        return None
    if name == "retain":
        model, missing = models.retain, ctx.roles.retain_missing_reason
    else:
        model, missing = base_model(ctx) if ctx.roles.has_base else None, "only the target model is provided"
    if model is None:
        raise UserError(
            f"method.select.baseline={name} needs a {name} model, but {missing}; set model.{name}=FOLDER or "
            "method.select.baseline=none"
        )
    return score_candidates(
        ctx, f"{name} candidates {label}".strip(), model, filtered, previous=previous.filtered if previous else None
    )


def _check_select(ctx: BuildContext) -> None:
    """Check which inverted facts the method selects."""
    select = ctx.select
    option, candidates = _candidates(ctx)
    if candidates is not None and select.k > candidates:
        expected = f"at most the number of candidates per fact, {option}={candidates}"
        raise invalid_option("method.select.k", select.k, expected, did_you_mean=candidates)


def _candidates(ctx: BuildContext) -> tuple[str, int | None]:
    """Return the option that sets the number of candidates per fact, and its value."""
    if ctx.repetition is not None and ctx.repetition.candidates:
        return "method.rounds.candidates", ctx.repetition.candidates
    return "inversion.candidates", ctx.config.inversion.candidates


def _check_repetition(ctx: BuildContext, repetition: Repetition, writer: type[Writer]) -> None:
    """Check how the method repeats against the measure, the dataset, the selection and the source of inverted facts."""
    memo = ctx.config.memo
    if repetition.cut_unit is not None and "cut_unit" not in memo.arguments:
        expected = f"null, since memo={memo.name} counts in tokens"
        raise invalid_option("method.rounds.cut_unit", repetition.cut_unit, expected, did_you_mean="null")
    if repetition.cut_unit is not None:
        ctx.check_windows("answer", lambda fact: (fact.answer,), memo=cut_every(memo, repetition.cut_unit))
    facts = len(ctx.dataset.facts("forget"))
    if repetition.max_requests is not None and repetition.max_requests < facts:
        expected = f"at least {facts}, one request per fact"
        raise invalid_option("method.rounds.max_requests", repetition.max_requests, expected, did_you_mean=facts)
    if ctx.select.rows == "official" and repetition.count > 1:
        raise UserError(
            "method.select.rows=official trains at most four rows per fact, so the inverted facts of later rounds "
            "would not be trained; set method.select.rows=selected or method.rounds.count=1"
        )
    if not writer.can_retry and repetition.count > 1:
        raise UserError(
            f"method={ctx.method_name} requests further inverted facts in later rounds, but inversion="
            f"{ctx.config.inversion.name} cannot write more; set inversion=rules, local or endpoint, or "
            "method=meow"
        )
    option, candidates = _candidates(ctx)
    if candidates is not None and repetition.k > candidates:
        expected = f"at most the number of candidates per fact and round, {option}={candidates}"
        raise invalid_option("method.rounds.k", repetition.k, expected, did_you_mean=candidates)
