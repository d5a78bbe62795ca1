"""Needs: what the graph names, the stages read back."""

from __future__ import annotations

from dataclasses import replace

from meow_lightning.evaluation.subject import Subject
from meow_lightning.stages.common.needs import EvaluationInputs, ReportInputs, RoundInputs, RunModels
from meow_lightning.stages.common.sequence_needs import SequenceInputs, ServedInputs

EVALUATION = EvaluationInputs(
    predictions={"target": "p1", "unlearned": "p2", "retain": "p3"},
    scores={("target", "answers"): "s1", ("retain", "answers"): "s2", ("target", "candidates"): "s3"},
    abilities={("target", "piqa"): "a1", ("unlearned", "group/arc"): "a2"},
    layers={("target", "logit_lens"): "l1", ("retain", "logit_lens"): "l2", ("retain", "patching"): "l3"},
    extractions={("target", "sample"): "e1", ("retain", "sample"): "e2"},
    slim={"target": "q1", "unlearned": "q2"},
)
ATTACKED = replace(
    EVALUATION, attacked={"prune": EvaluationInputs(predictions={"target": "p4"}, scores={}, measured={"target": "m"})}
)
PLAIN = ReportInputs(
    results="results", probe="probe", baseline=None, proposed=None, evaluation=EVALUATION,
    verifications={},
    rounds=(),
    models=RunModels(base=None, target="target", unlearned="unlearned", retain=None),
)  # fmt: skip


def rounds(count: int, *, verified: bool) -> tuple[RoundInputs[str], ...]:
    return tuple(
        RoundInputs(
            proposed=f"proposed {n}", filtered=f"filtered {n}", unlearned=f"unlearned {n}", scores=f"scores {n}",
            verification=f"verification {n}" if verified else None,
        )
        for n in range(count)
    )  # fmt: skip


def test_the_evaluations_needs_are_read_back_from_among_others() -> None:
    needs = {"target": "model", **EVALUATION.to_needs(), "round/1/score": "other"}
    assert EvaluationInputs.from_needs(needs) == EVALUATION
    assert EvaluationInputs.from_needs(ATTACKED.to_needs()) == ATTACKED
    assert set(ATTACKED.to_needs()) - set(EVALUATION.to_needs()) == {"predict/target@prune", "numbers/target@prune"}
    assert EvaluationInputs.from_needs({"predict/unlearned": "p"}) == EvaluationInputs(
        predictions={"unlearned": "p"}, scores={}
    )


def test_a_report_without_inverted_facts_and_retain_model_is_read_back() -> None:
    assert ReportInputs.from_needs(PLAIN.to_needs()) == PLAIN
    assert set(PLAIN.to_needs()) == {"probe", "results", "target", "unlearned", *EVALUATION.to_needs()}


def test_every_round_of_a_report_is_read_back_with_and_without_its_verification() -> None:
    for count in (1, 4):
        for verified in (False, True):
            full = replace(
                PLAIN, baseline="baseline", proposed="proposed", evaluation=replace(EVALUATION, filtered="filtered"),
                rounds=rounds(count, verified=verified),
                verifications={
                    (Subject("target"), "answers"): "v", (Subject("target"), "candidates"): "w",
                    (Subject("unlearned", "int4"), "answers"): "x",
                },
                models=RunModels(base="base", target="target", unlearned="unlearned", retain="retain"),
            )  # fmt: skip
            assert ReportInputs.from_needs(full.to_needs()) == full


def test_the_names_of_needs_stay_since_keys_hold_them() -> None:
    evaluation = replace(EVALUATION, filtered="f")
    full = replace(PLAIN, proposed="a", evaluation=evaluation, rounds=rounds(1, verified=True))
    full = replace(
        full, verifications={(Subject("target"), "answers"): "v", (Subject("target", "int4"), "answers"): "w"}
    )
    assert list(full.to_needs()) == [
        "probe", "results", "proposed", "filtered", "target", "unlearned", "predict/target", "predict/unlearned",
        "predict/retain", "score/target/answers", "score/retain/answers", "score/target/candidates",
        "ability/target/piqa", "ability/unlearned/group/arc", "inspect/target/logit_lens",
        "inspect/retain/logit_lens", "inspect/retain/patching", "extract/target/sample",
        "extract/retain/sample", "slim/target", "slim/unlearned", "verify/target/answers",
        "verify/target@int4/answers", "round/1/verify",
        "round/1/propose", "round/1/filter", "round/1/unlearn", "round/1/score",
    ]  # fmt: skip


def test_models_are_listed_as_far_as_there_are_any() -> None:
    assert PLAIN.models.by_role == {"target": "target", "unlearned": "unlearned"}
    assert RunModels(base="b", target="t", unlearned="u", retain="r").present == ("b", "t", "u", "r")


def test_what_attacked_models_gave_is_read_back_by_condition() -> None:
    plain = replace(EVALUATION, extractions={}, slim={})  # attacks that ask do so without another attack
    attacked = {name: replace(plain, predictions={"unlearned": name}) for name in ("relearn", "int4")}
    evaluation = replace(EVALUATION, attacked=attacked)
    models = {Subject("unlearned", name): f"model {name}" for name in attacked}
    full = replace(PLAIN, evaluation=evaluation, models=replace(PLAIN.models, attacked=models))
    assert ReportInputs.from_needs(full.to_needs()) == full
    assert {"unlearned@relearn", "predict/unlearned@int4", "ability/unlearned@int4/group/arc"} <= {*full.to_needs()}
    assert full.models.after("int4") == {"unlearned": "model int4"}
    assert full.models.present == ("target", "unlearned", "model relearn", "model int4")
    assert evaluation.by_condition == {"": evaluation, **attacked}


def test_the_models_after_every_request_are_read_back_and_stand_last() -> None:
    requests = tuple(ServedInputs(model=f"m{n}", predictions=f"p{n}", scores=f"s{n}") for n in range(3))
    sequence = SequenceInputs(requests=requests, joint=ServedInputs(model="m", predictions="p", scores="s"))
    full = replace(PLAIN, evaluation=replace(EVALUATION, sequence=sequence))
    needs = full.to_needs()
    assert ReportInputs.from_needs(needs) == full
    assert list(needs)[-12:-6] == [
        "joint/model", "joint/predict", "joint/score", "request/1/model", "request/1/predict", "request/1/score",
    ]  # fmt: skip
    assert sequence.all == (*requests, sequence.joint)
    assert SequenceInputs.from_needs(PLAIN.to_needs()) is None
