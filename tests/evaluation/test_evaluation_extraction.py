"""Numbers of attacks that ask: means over facts, the excess over the retain model, intervals, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from meow_lightning.attacks.extraction import Attempt, Attempts, ExtractionAttack, FactNumber
from meow_lightning.evaluation.extraction import (
    Extraction,
    excess_name,
    extraction_samples,
    extraction_values,
    is_extraction,
    with_extraction,
)
from meow_lightning.evaluation.suite.bootstrap import Bootstrap
from meow_lightning.types import ROLES, Results

EMPTY = Results(definitions=(), values={role: {"model_utility": 0.5} for role in ROLES})
SAID = {
    "target": ["red blue", "red blue", "red blue"], "unlearned": ["red", "", "red blue"], "retain": ["", "red", "red"],
}  # fmt: skip


class Once(ExtractionAttack):
    """One answer per fact."""

    calls = 1

    def extract(self, facts, ctx):
        raise NotImplementedError

    def numbers(self):
        return (
            FactNumber(name="recall", label="recall", text="Recall.", main=True),
            FactNumber(name="length", label="length", text="Length.", excess=False),
        )

    def values(self, found, overlap):
        text = found.attempts[0].text
        return {"recall": overlap(found.answer, text), "length": None if not text else float(len(text.split()))}


def extraction(said: Mapping[str, list[str]]) -> Extraction:
    rows = {
        role: [
            Attempts(
                fact=str(place), question="?", answer="red blue", expected=(),
                attempts=(Attempt(arm="a", prompt="", text=text),),
            )
            for place, text in enumerate(texts)
        ]
        for role, texts in said.items()
    }  # fmt: skip
    return Extraction("once", "asked once", Once(), rows, "forget")


def results(said: Mapping[str, list[str]], absent: Mapping[str, str] | None = None) -> Results:
    asked = [extraction(said)]
    return with_extraction(EMPTY, asked, extraction_values(asked), absent=absent or {})


def test_the_means_and_the_excess_over_the_retain_model_by_hand() -> None:
    found = results(SAID)
    name = "extraction/once/recall"
    assert {role: found.values[role][name] for role in ROLES} == {"target": 1.0, "unlearned": 0.5, "retain": 1 / 3}
    assert found.values["unlearned"][excess_name(name)] == pytest.approx((0.5 - 0.5 + 0.5) / 3)
    assert found.values["target"][excess_name(name)] == pytest.approx(2 / 3)
    assert "excess is measured over this model" in found.missing["retain"][excess_name(name)]
    assert found.values["unlearned"]["extraction/once/length"] == 1.5  # the empty answer does not count
    assert {each.name for each in found.definitions} == {name, excess_name(name), "extraction/once/length"}
    assert all(is_extraction(each.name) and each.version == 2 for each in found.definitions)
    assert found.values["target"]["model_utility"] == 0.5


def test_without_a_retain_model_the_excess_is_missing_with_the_reason() -> None:
    two = {role: SAID[role] for role in ("target", "unlearned")}
    found = results(two, {"retain": "model.retain=none"})
    assert found.values["unlearned"]["extraction/once/recall"] == 0.5
    assert found.missing["unlearned"][excess_name("extraction/once/recall")] == "not measured: model.retain=none"
    assert found.missing["retain"]["extraction/once/recall"] == "not measured: model.retain=none"


def test_a_number_that_no_fact_has_is_missing_and_has_no_interval() -> None:
    asked = [extraction({role: ["", ""] for role in ROLES})]
    values = extraction_values(asked)
    found = with_extraction(EMPTY, asked, values, absent={})
    assert "none of its questions counts" in found.missing["target"]["extraction/once/length"]
    samples = extraction_samples(values, asked, bootstrap=Bootstrap(bootstrap_samples=10, seed=0))
    assert samples["target"].drawn.keys() == {"extraction/once/recall", excess_name("extraction/once/recall")}


def test_the_samples_are_those_of_the_questions_of_the_set() -> None:
    bootstrap = Bootstrap(bootstrap_samples=50, seed=0)
    asked = [extraction(SAID)]
    samples = extraction_samples(extraction_values(asked), asked, bootstrap=bootstrap)
    expected = bootstrap.counts("forget", 3) @ np.array([0.5, 0.0, 1.0]) / 3
    assert samples["unlearned"].drawn["extraction/once/recall"] == pytest.approx(expected)
    assert samples["target"].unanimous == {"extraction/once/recall": 3}
    assert not samples["unlearned"].unanimous


def test_nothing_is_added_without_such_attacks() -> None:
    assert with_extraction(EMPTY, [], extraction_values([]), absent={}) == EMPTY
