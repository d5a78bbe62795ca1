"""Numbers under attacks: joined by subject, and what an attack brings back, worked out by hand."""

from __future__ import annotations

import pytest

from meow_lightning.evaluation.robustness import recovered, robustness, stability, with_conditions
from meow_lightning.types import Definition, Results

VALUE, MEMO = "forget/value_accuracy", "memo/answers"
DEFINED = tuple(
    Definition(
        name=name, id=f"{name[-5:]}.2", unit="share", direction="lower", text="", label=name, order=i, main=True
    )
    for i, name in enumerate((VALUE, MEMO))
)  # fmt: skip


def results(target: float, unlearned: float, retain: float | None) -> Results:
    values = {"target": {VALUE: target}, "unlearned": {VALUE: unlearned}}
    missing = {role: {MEMO: f"no memo of {role}"} for role in ("target", "unlearned", "retain")}
    if retain is None:
        missing["retain"][VALUE] = "there is no retain model"
    return Results(DEFINED, {**values, "retain": {} if retain is None else {VALUE: retain}}, missing)


def test_robustness_compares_two_changes() -> None:
    assert robustness(0.2, 0.2) == 1
    assert robustness(0.6, 0.2) == pytest.approx(1 - 0.4 / 0.8)
    assert robustness(0.6, 0.0) == 0
    assert robustness(0.3, -0.3) == 0
    assert robustness(0.0, 0.0) == 1


def test_stability_compares_a_metric_before_and_after() -> None:
    assert stability(0.4, 0.4) == 1
    assert stability(0.2, 0.6) == pytest.approx(1 - 0.4 / 0.8)
    assert stability(0.0, 0.5) == 0
    assert stability(0.0, 0.0) == 1


def test_recovered_is_a_share_of_what_unlearning_removed() -> None:
    assert recovered(1.0, 0.25, 0.75) == pytest.approx(2 / 3)
    assert recovered(1.0, 0.5, 0.25) == pytest.approx(-0.5)
    assert recovered(1.0, 0.98, 1.0) is None


def test_without_attacks_the_results_are_the_same_object() -> None:
    alone = results(0.9, 0.1, 0.2)
    assert with_conditions({"": alone}, {}) is alone


def test_what_an_attack_brings_back_stands_beside_the_numbers_after_it() -> None:
    before, after = results(0.9, 0.1, 0.2), results(1.0, 0.5, 0.3)
    joined = with_conditions({"": before, "relearn": after}, {"relearn": "after relearning"})
    assert joined.conditions == {"relearn": "after relearning"}
    assert [*joined.values] == [
        "target", "unlearned", "retain", "target@relearn", "unlearned@relearn", "retain@relearn"
    ]  # fmt: skip
    assert {role: joined.values[role] for role in before.values} == before.values
    assert joined.values["target@relearn"] == {VALUE: 1.0}
    assert joined.values["unlearned@relearn"] == {
        VALUE: 0.5, f"recovered/{VALUE}": pytest.approx(0.4 / 0.8), f"robustness/{VALUE}": pytest.approx(0.4),
        f"stability/{VALUE}": pytest.approx(1 - 0.4 / 0.6),
    }  # fmt: skip
    assert joined.missing["unlearned@relearn"][f"recovered/{MEMO}"] == "no memo of target"
    assert {each.name for each in joined.definitions} >= {VALUE, f"recovered/{VALUE}", f"robustness/{MEMO}"}


def test_reasons_stand_in_the_place_of_numbers() -> None:
    joined = with_conditions({"": results(0.3, 0.3, None), "a": results(0.3, 0.3, None)}, {"a": "after a"})
    reasons = joined.missing["unlearned@a"]
    assert reasons[f"robustness/{VALUE}"] == "there is no retain model"
    assert "nothing to bring back" in reasons[f"recovered/{VALUE}"]
    assert joined.values["unlearned@a"][f"stability/{VALUE}"] == 1


def test_ratios_of_numbers_about_zero_are_not_shown() -> None:
    joined = with_conditions({"": results(1.0, 0.0, 0.06), "a": results(1.0, 0.016, 0.05)}, {"a": "after a"})
    assert joined.values["unlearned@a"].keys() == {VALUE, f"recovered/{VALUE}"}
    reasons = joined.missing["unlearned@a"]
    assert "moved" in reasons[f"robustness/{VALUE}"]
    assert "about 0" in reasons[f"stability/{VALUE}"]
