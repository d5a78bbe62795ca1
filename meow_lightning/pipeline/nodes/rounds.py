"""The rounds of a method that trains on inverted facts: propose, filter, score, unlearn; and again where it repeats.

All rounds are planned beforehand, so that keys, plans and stores work as for any other run. A round without new facts
costs nothing: it takes over the model of the round before, with its scores and predictions.
"""

from __future__ import annotations

from meow_lightning.errors import UserError, check_choice
from meow_lightning.inversion.base import Writer
from meow_lightning.pipeline.graph import Round
from meow_lightning.pipeline.nodes.context import BuildContext, Repetition
from meow_lightning.pipeline.nodes.inverted_facts import filter_replies, propose
from meow_lightning.pipeline.nodes.models import InitialModels
from meow_lightning.pipeline.nodes.predict import predict_under_own_protocol
from meow_lightning.pipeline.nodes.score import by_unit, score_answers, score_candidates, verify
from meow_lightning.pipeline.nodes.unlearn import check_streams, unlearn


def build_rounds(ctx: BuildContext, models: InitialModels) -> tuple[Round, ...]:
    """Build the rounds: one for a method that does not repeat, none for a method without inverted facts.

    Raises:
        UserError: The options of the method, of the source of inverted facts or of the measure do not fit each other.
    """
    writer = ctx.writer
    if writer is None:
        return ()
    check_streams(ctx)
    _check_select(ctx)
    if ctx.repetition is not None:
        _check_repetition(ctx, ctx.repetition, writer)
    if writer.reads_other_facts:
        ctx.check_windows("candidate", lambda fact: fact.inverted)
    rounds: list[Round] = []
    for _ in range(ctx.repetition.count if ctx.repetition else 1):
        rounds.append(_round(ctx, models, writer, rounds))
    return tuple(rounds)


def _round(ctx: BuildContext, models: InitialModels, writer: type[Writer], before: list[Round]) -> Round:
    again, former, number = ctx.repetition, before[-1] if before else None, len(before) + 1
    last = again is None or number == again.count
    label = f"round {number}" if again else ""
    name = "unlearned" if last else label
    proposed = propose(ctx, label, writer, former)
    filtered = filter_replies(ctx, label, proposed, former)
    candidate_scores = score_candidates(
        ctx, f"target candidates {label}".strip(), models.target, filtered, known=former.filtered if former else None
    )
    selection = {"inverted": filtered, "candidates": candidate_scores}
    if former is not None:
        selection["before"] = former.unlearned
    unlearned = unlearn(ctx, name, models, selection)
    scores = verification = predictions = None
    if again is not None:
        scores = score_answers(
            ctx, f"{name} held", unlearned, cut_unit=again.cut_unit, before=former.scores if former else None
        )
        verification = verify(ctx, scores)
    if not last:
        earlier = former.predictions if former else None
        predictions = predict_under_own_protocol(ctx, name, unlearned, ("forget",), before=earlier)
    return Round(
        proposed=proposed, filtered=filtered, candidate_scores=candidate_scores, unlearned=unlearned, scores=scores,
        verification=verification, predictions=predictions,
    )  # fmt: skip


def _check_select(ctx: BuildContext) -> None:
    """Check which inverted facts the method selects."""
    select = ctx.options["method"].get("select")
    if select is None:
        name = ctx.method_name
        raise UserError(f"method={name} trains on inverted facts, so conf/method/{name}.yaml needs `select`")
    check_choice("method.select.strategy", select["strategy"], ("largest", "smallest", "random"))
    check_choice("method.select.rows", select["rows"], ("selected", "official"))
    option, candidates = _candidates(ctx)
    if candidates is not None and select["k"] > candidates:
        raise UserError(
            f"method.select.k={select['k']} inverted facts are to be picked, but {option}={candidates} are "
            f"written per fact; give k <= {candidates} or more candidates"
        )


def _candidates(ctx: BuildContext) -> tuple[str, int | None]:
    """The option that sets the number of candidates per fact, and its value."""
    if ctx.repetition is not None and ctx.repetition.candidates:
        return "method.rounds.candidates", ctx.repetition.candidates
    return "inversion.candidates", ctx.options["inversion"].get("candidates")


def _check_repetition(ctx: BuildContext, again: Repetition, writer: type[Writer]) -> None:
    """Check how the method repeats against the measure, the dataset, the selection and the source of inverted facts."""
    memo = ctx.options["memo"]
    if again.cut_unit is not None and "cut_unit" not in memo:
        raise UserError(
            f"method.rounds.cut_unit={again.cut_unit} is for MEMO, and memo={memo['name']} counts in tokens; say null"
        )  # fmt: skip
    if again.cut_unit is not None:
        ctx.check_windows("answer", lambda fact: (fact.answer,), memo=by_unit(memo, again.cut_unit))
    facts = len(ctx.dataset.facts("forget"))
    if again.max_requests is not None and again.max_requests < facts:
        raise UserError(
            f"method.rounds.max_requests={again.max_requests} cannot ask about each of the {facts} facts once; "
            f"give {facts} or more"
        )
    if ctx.options["method"]["select"]["rows"] == "official" and again.count > 1:
        raise UserError(
            "method.select.rows=official trains four rows of a fact at most, so what a loop adds would not be "
            "trained; say method.select.rows=selected or method.rounds.count=1"
        )
    if not writer.can_retry and again.count > 1:
        raise UserError(
            f"method={ctx.method_name} asks for further inverted facts, and inversion="
            f"{ctx.options['inversion']['name']} has nothing more to say; say inversion=rules, local or endpoint, or "
            "method=meow"
        )
    _, candidates = _candidates(ctx)
    if candidates is not None and again.k > candidates:
        raise UserError(
            f"method.rounds.k={again.k} inverted facts are to be picked in a round, and {candidates} are written in "
            f"it; give k <= {candidates} or more candidates"
        )
