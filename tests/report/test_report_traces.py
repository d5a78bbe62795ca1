from __future__ import annotations

import math

import pytest

from meow_lightning.report.traces import recovered, traces
from meow_lightning.report.verdict import forgetting, verdict
from meow_lightning.types import Results

BEFORE = {"forget_quality": 1e-6, "forget/value_accuracy": 1.0, "model_utility": 0.5}
AFTER = {"forget_quality": 0.5, "forget/value_accuracy": 0.0, "model_utility": 0.5}


def results(attacked: tuple[float, float, float] | None = None, **values: tuple[float, float, float]) -> Results:
    """Numbers of target, unlearned and retain model; ``attacked``: value accuracy after relearning."""
    names = {"leakage": "privacy_leakage/min_k_40", "probability": "forget/probability"}
    roles = {"target": dict(BEFORE), "unlearned": dict(AFTER), "retain": {"forget/value_accuracy": 0.0}}
    for name, each in values.items():
        for role, value in zip(("target", "unlearned", "retain"), each, strict=True):
            roles[role][names[name]] = value
    if attacked is None:
        return Results(definitions=(), values=roles)
    after = {f"{role}@relearn": {"forget/value_accuracy": each} for role, each in zip(roles, attacked, strict=True)}
    return Results(definitions=(), values=roles | after, conditions={"relearn": "after relearning"})


@pytest.mark.parametrize(("leakage", "hidden"), [(-0.75, True), (-0.5, False), (-0.1, False), (0.3, False)])
def test_a_membership_attack_that_still_sees_the_facts(leakage: float, hidden: bool) -> None:
    found = results(leakage=(-1.0, leakage, 0.0))
    (trace,) = traces(found)
    assert trace.share == pytest.approx(-leakage)
    assert forgetting(found) == ("hidden" if hidden else "forgot")
    text = dict(verdict(found).findings)["Traces"]
    assert text.startswith("A membership attack (Min-40%) tells facts to forget from facts never seen: privacy leakage")
    assert text.endswith("the facts are still there.") == hidden


def test_the_truths_probability_is_compared_in_logarithms() -> None:
    (trace,) = traces(results(probability=(0.81, 0.27, 0.09)))
    assert trace.share == pytest.approx(math.log(3) / math.log(9))
    assert forgetting(results(probability=(0.81, 0.26, 0.09))) == "forgot"
    assert forgetting(results(probability=(0.81, 0.28, 0.09))) == "hidden"


def test_a_trace_that_the_target_does_not_show_says_nothing() -> None:
    assert traces(results(leakage=(0.0, -0.5, 0.0), probability=(0.1, 0.5, 0.1))) == []
    assert traces(results(probability=(0.5, 0.0, 0.1))) == [], "a probability of 0 has no logarithm"
    assert recovered(results((0.1, 0.9, 0.1))) == {}


@pytest.mark.parametrize(("after", "hidden"), [(0.9, True), (0.3, False)])
def test_an_attack_that_brings_the_facts_back(after: float, hidden: bool) -> None:
    found = results((1.0, after, 0.2))
    assert recovered(found)["relearn"].share == pytest.approx((after - 0.2) / 0.8)
    shown = verdict(found)
    assert shown.headline.startswith("The model answers otherwise, but still knows") == hidden
    assert dict(shown.findings)["Attacks"].endswith("The attack brings the facts back.") == hidden


def test_what_was_lost_is_told_beside_what_is_hidden() -> None:
    found = results(leakage=(-1.0, -0.9, 0.0))
    assert (verdict(found).tone, verdict(found).headline) == ("mixed", "The model answers otherwise, but still knows.")
    found.values["unlearned"]["model_utility"] = 0.4
    assert verdict(found).headline.endswith("still knows, and it lost part of what it should have kept.")
    found.values["unlearned"]["model_utility"] = 0.1
    assert verdict(found).headline.startswith("The model collapsed: it answers otherwise, but lost")
