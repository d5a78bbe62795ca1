from __future__ import annotations

import pytest

from meow_lightning.report.limits import critical_distance
from meow_lightning.report.verdict import forgetting, keeping, verdict
from meow_lightning.types import Definition, Results


def results(
    *, target: dict[str, float], unlearned: dict[str, float], retain: dict[str, float], missing: dict[str, str]
) -> Results:
    values = {"target": target, "unlearned": unlearned, "retain": retain}
    return Results(definitions=DEFINITIONS, values=values, missing={"unlearned": missing})


DEFINITIONS = (
    Definition("retain/rouge_l_recall", "r.1", "share", "higher", "R.", "retain ROUGE-L recall", order=1, main=True),
)


TARGET = {
    "forget_quality": 8e-7,
    "forget_quality_log10": -6.1,
    "model_utility": 0.56,
    "forget/value_accuracy": 1.0,
    "retain/value_accuracy": 0.99,
    "retain/rouge_l_recall": 0.99,
    "memo/answers": 0.27,
}
RETAIN = {"forget_quality": 1.0, "forget_quality_log10": 0.0, "forget/value_accuracy": 0.03, "memo/answers": 0.16}
FORGOT = {
    "forget_quality": 0.13,
    "forget_quality_log10": -0.9,
    "forget_quality_distance": 0.2,
    "forget_quality_rows": 64.0,
    "model_utility": 0.542,
    "forget/value_accuracy": 0.02,
    "retain/value_accuracy": 0.97,
    "retain/rouge_l_recall": 0.99,
    "memo/answers": 0.19,
}


def test_forgot_well() -> None:
    found = verdict(results(target=TARGET, unlearned=FORGOT, retain=RETAIN, missing={}))
    text = dict(found.findings)
    assert (found.tone, found.headline) == ("good", "The model forgot, and kept what it should keep.")
    assert text["Forgetting"] == (
        "Forget quality log10 p rose from -6.1 to -0.9 (retain model: 0). With p = 0.13 the unlearned model is not "
        "distinguishable from the retain model at the 5% level with n = 64 questions; the two distributions are 0.200 "
        "apart, the limit is about 0.24."
    )
    assert "true value in 2% of its answers (target model: 100%, retain model: 3%)." in text["Answers"]
    assert text["Utility"] == "97% of the target model's utility is kept (0.542 of 0.560)."
    assert text["Retain set"] == (
        "On the retain set, ROUGE-L recall stayed at 0.99 and value accuracy went from 0.99 to 0.97."
    )
    assert text["MEMO"] == "MEMO of the true answers is 0.190 (target model: 0.270, retain model: 0.160)."
    assert any("never trained on" in limit for limit in found.limits)
    assert any("not a proof" in limit and "With 64 questions" in limit for limit in found.limits)


def leaking(share: float, elsewhere: float) -> dict[str, float]:
    """Of 200 answers; 40 forgotten values, so more than 4 further answers than the retain model's are noticeable."""
    return {
        "forget/leakage": share, "forget/leakage_elsewhere": elsewhere, "forget/leakage_values": 40.0,
        "forget/leakage_rows": 200.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("share", "elsewhere", "ending", "forgot"),
    [
        (0.03, 0.02, "2.0% that of another question (retain model: 1.0%).", "forgot"),  # 4 more answers: not noticeable
        (0.035, 0.01, "The model still discloses forgotten values.", "not"),  # 5 more
        (0.035, 0.035, "in answers to questions that do not ask for them.", "not"),
    ],
)
def test_answers_that_give_forgotten_values_away(share: float, elsewhere: float, ending: str, forgot: str) -> None:
    values = {**FORGOT, **leaking(share, elsewhere)}
    found = results(target=TARGET, unlearned=values, retain={**RETAIN, **leaking(0.01, 0.01)}, missing={})
    text = dict(verdict(found).findings)["Leakage"]
    assert text.startswith(
        f"Of all 200 answers, {share:.1%} hold one of the 40 forgotten values (retain model: 1.0%), and"
    )
    assert text.endswith(ending)
    assert forgetting(found) == forgot


def test_unmeasured_leakage_is_explained() -> None:
    reason = {"forget/leakage": "not measured: nothing to look for"}
    found = verdict(results(target=TARGET, unlearned=FORGOT, retain=RETAIN, missing=reason))
    assert dict(found.findings)["Leakage"] == (
        "Whether answers hold forgotten values was not measured: nothing to look for."
    )


def test_forgot_at_a_cost_names_the_loss_that_utility_hides() -> None:
    cost = {**FORGOT, "model_utility": 0.493, "retain/value_accuracy": 0.69}
    found = verdict(results(target=TARGET, unlearned=cost, retain=RETAIN, missing={}))
    assert (found.tone, found.headline) == ("mixed", "The model forgot, at a cost to what it should keep.")
    text = dict(found.findings)
    assert text["Utility"].startswith("88% of the target model's utility is kept")
    assert text["Retain set"].endswith("Model utility understates this loss.")


def test_did_not_forget() -> None:
    same = {**FORGOT, "forget_quality": 1e-6, "forget_quality_log10": -6.0, "forget/value_accuracy": 0.95}
    found = verdict(results(target=TARGET, unlearned=same, retain=RETAIN, missing={}))
    assert (found.tone, found.headline) == ("bad", "The model did not forget.")
    text = dict(found.findings)
    assert "With p = 1e-06 the unlearned model is still distinguishable" in text["Forgetting"]
    assert text["Answers"].endswith("The model still states what it should have forgotten.")


def test_a_passed_test_does_not_outweigh_a_fact_that_is_still_answered() -> None:
    above = {**FORGOT, "forget/value_accuracy": 0.14}
    assert forgetting(results(target=TARGET, unlearned=above, retain=RETAIN, missing={})) == "not"
    barely = {**FORGOT, "forget/value_accuracy": 0.12}
    assert forgetting(results(target=TARGET, unlearned=barely, retain=RETAIN, missing={})) == "forgot"


def test_collapsed_although_utility_looks_fine() -> None:
    wreck = {**FORGOT, "model_utility": 0.49, "retain/value_accuracy": 0.45, "retain/rouge_l_recall": 0.56}
    found = verdict(results(target=TARGET, unlearned=wreck, retain=RETAIN, missing={}))
    assert found.tone == "bad"
    assert found.headline == "The model collapsed: it forgot, but lost most of what it should have kept."


def test_collapse_to_zero_counts_as_collapse() -> None:
    zero = {**FORGOT, "retain/value_accuracy": 0.0}
    found = results(target=TARGET, unlearned=zero, retain=RETAIN, missing={})
    assert keeping(found) == "collapsed"
    assert dict(verdict(found).findings)["Retain set"].endswith("Model utility understates this loss.")


def test_undecided_when_the_test_saw_nothing_before() -> None:
    blind = {**TARGET, "forget_quality": 0.4, "forget_quality_log10": -0.4}
    found = verdict(results(target=blind, unlearned=FORGOT, retain=RETAIN, missing={}))
    assert found.tone == "open"
    assert found.headline.startswith("Undecided")


def test_without_retain_model_forget_quality_is_not_measured_with_the_reason() -> None:
    after = {name: value for name, value in FORGOT.items() if not name.startswith("forget_quality")}
    reason = {"forget_quality": "not measured: this run has no predictions of the retain model"}
    found = verdict(results(target=TARGET, unlearned=after, retain={}, missing=reason))
    assert found.tone == "open"
    text = dict(found.findings)["Forgetting"]
    assert text == "Forget quality was not measured: this run has no predictions of the retain model."


@pytest.mark.parametrize(("questions", "limit"), [(40, 0.304), (400, 0.096), (1, 1.0)])
def test_critical_distance_agrees_with_the_published_table(questions: int, limit: float) -> None:
    # 1.3581 * sqrt(2 / n); the exact test allows 0.300 and 0.095 at n = 40 and 400
    assert critical_distance(questions) == pytest.approx(limit, abs=5e-4)


def test_critical_distance_needs_questions() -> None:
    assert critical_distance(0) is None


@pytest.mark.parametrize(("known", "meaningless"), [(0.19, True), (0.2, False), (1.0, False)])
def test_a_target_that_never_knew_the_facts_makes_the_verdict_meaningless(known: float, meaningless: bool) -> None:
    target = {**TARGET, "facts_known": known}
    found = verdict(results(target=target, unlearned={**TARGET, "forget_quality": 0.9}, retain=RETAIN, missing={}))
    assert found.headline.startswith("Meaningless: the target model does not know the facts") == meaningless
    topic, text = found.findings[0]
    assert topic == "Facts"
    assert text.startswith(f"Before unlearning, the target model knew {known:.0%} of what there was to learn, compared")
    assert text.endswith("not the effect of unlearning.") == meaningless
