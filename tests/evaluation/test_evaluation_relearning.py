"""RTT, worked out by hand: relearning on some of the forgotten facts, tested on the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meow_lightning.evaluation.relearning import untrained_samples, untrained_values, with_untrained
from meow_lightning.evaluation.suite.bootstrap import Bootstrap
from meow_lightning.types import ROLES, AnswerRow, Likelihood, Results

TRAINED = {"half": ["f0", "f1"]}
UNKNOWN = Likelihood(ids=(), logps=(), hits=(), mean=(), std=())


def answers(*right: bool, name: str = "forget") -> list[AnswerRow]:
    return [
        AnswerRow(
            set=name, index=place, fact=f"f{place}", question="", answer="In Lima.", value="Lima", truth=UNKNOWN,
            paraphrase=None, perturbed=(), generated=(), text="Lima" if each else "Rome", stop="end",
        )
        for place, each in enumerate(right)
    ]  # fmt: skip


ROWS = {
    "target": answers(True, True, True, True, True, True),
    "unlearned": answers(False, False, False, False, False, True),
    "retain": answers(False, False, False, False, False, False),
    "unlearned@half": answers(True, True, True, True, False, True),
    "retain@half": answers(True, True, False, True, False, False),
    "target@half": answers(True, True, True, True, True, True),
}
EMPTY = Results(definitions=(), values={each: {} for each in ROWS}, conditions={"half": "after relearning"})


def test_only_forgotten_facts_that_were_not_trained_on_count() -> None:
    found = untrained_values({"unlearned": [*ROWS["unlearned"], *answers(True, name="retain")]}, TRAINED["half"])
    assert found == {"unlearned": [0.0, 0.0, 0.0, 1.0]}


def test_one_of_two_values_is_enough() -> None:
    rows = [replace(row, value=None, values=("Lima", "1971")) for row in answers(True, False)]
    assert untrained_values({"unlearned": rows}, ()) == {"unlearned": [1.0, 0.0]}


def test_a_planted_return_is_found_and_the_retain_model_is_its_floor() -> None:
    results = with_untrained(EMPTY, ROWS, TRAINED)
    assert results.values["unlearned@half"] == pytest.approx({
        "untrained/value_accuracy_before": 0.25, "untrained/value_accuracy": 0.75, "untrained/rtt": 2 / 3,
    })  # fmt: skip
    assert results.values["retain@half"]["untrained/rtt"] == pytest.approx(0.25)
    assert results.missing["target@half"]["untrained/rtt"].startswith("not measured: nothing was taken")
    assert {known.name for known in results.definitions} == {*results.values["unlearned@half"]}
    nothing = with_untrained(EMPTY, {**ROWS, "unlearned@half": ROWS["unlearned"]}, TRAINED)
    assert nothing.values["unlearned@half"]["untrained/rtt"] == 0.0


def test_without_a_model_or_a_difference_the_reason_is_given() -> None:
    rows = {name: each for name, each in ROWS.items() if not name.startswith("retain")}
    results = with_untrained(EMPTY, {**rows, "unlearned": ROWS["target"]}, TRAINED)
    assert "no answers of the retain model" in results.missing["retain@half"]["untrained/rtt"]
    assert "nothing to bring back" in results.missing["unlearned@half"]["untrained/rtt"]


def test_nothing_is_added_where_all_facts_were_trained_on() -> None:
    assert with_untrained(EMPTY, ROWS, {}) == EMPTY
    assert untrained_samples(ROWS, {}, bootstrap=Bootstrap(bootstrap_samples=5, seed=0)) == {}


def test_intervals_resample_the_facts_that_were_not_trained_on() -> None:
    drawn = untrained_samples(ROWS, TRAINED, bootstrap=Bootstrap(bootstrap_samples=300, seed=0))
    after = drawn["unlearned@half"].drawn["untrained/value_accuracy"]
    assert set(after) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert after.mean() == pytest.approx(0.75, abs=0.05)
    assert drawn["retain@half"].drawn["untrained/rtt"].mean() == pytest.approx(0.25, abs=0.05)
    assert set(drawn) <= {f"{role}@half" for role in ROLES}
    assert not drawn["unlearned@half"].unanimous
    none = untrained_samples({**ROWS, "unlearned@half": ROWS["retain"]}, TRAINED, bootstrap=Bootstrap(10, 0))
    assert none["unlearned@half"].unanimous == {"untrained/value_accuracy": 4}
