"""Hallucination on unrelated questions, on answers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from meow_lightning.data.streams.refusals import REFUSALS
from meow_lightning.evaluation.metrics.hallucination import asserts, refuses
from meow_lightning.evaluation.suite.bootstrap import Bootstrap, headline_samples, interval_ends
from meow_lightning.evaluation.suite.inputs import SideInputs
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.types import AnswerRow, InvertedFact, Results

MakeRow = Callable[..., AnswerRow]
INVERTED = [
    InvertedFact("forget-0", 0, "Where does Marta Oleskowa live?", "Marta Oleskowa lives in Oslo, Norway."),
    InvertedFact("forget-0", 1, "Where does Marta Oleskowa live?", "Marta Oleskowa lives in Turin, Italy."),
]
SHARES = ("answer_changed", "says_forgotten", "says_inverted", "refuses", "asserts")
QUESTIONS = ("Where does Otto Kranz live?", "Who wrote Silent Tides?", "When was Ines Valdor born?", "What is Rome?")
TRUTHS = ("Otto Kranz lives in Bergamo, Italy.", "It is by Nadia Ferro.", "In 1931.", "A city.")
BEFORE = ("In Bergen, Norway.", "It is by Ada Brandt.", "In 1950.", "A city.")


@pytest.fixture
def rows(make_row: MakeRow) -> Callable[..., list[AnswerRow]]:
    """A model's rows: one fact to forget, three that nobody taught, one of the world."""

    def build(*texts: str) -> list[AnswerRow]:
        known = make_row(
            "forget", 0, question="Where does Marta Oleskowa live?", text="x",
            answer="Marta Oleskowa lives in Gdynia, Poland, since 1987.",
        )  # fmt: skip
        held = [
            make_row("holdout", index, question=QUESTIONS[index], answer=TRUTHS[index], text=texts[index])
            for index in range(3)
        ]
        return [known, *held, make_row("world_facts", 0, question=QUESTIONS[3], answer=TRUTHS[3], text=texts[3])]

    return build


def measured(rows: Mapping[str, list[AnswerRow]], **side: Any) -> Results:
    return evaluate(
        rows, {}, truth_ratio_mean="geometric", side_inputs=SideInputs(**{"inverted": INVERTED, **side})
    )  # fmt: skip


def shares(results: Results, role: str, name: str) -> list[float]:
    return [results.values[role][f"{name}/{share}"] for share in SHARES]


def test_by_hand(rows: Callable[..., list[AnswerRow]]) -> None:
    after = ("In Oslo, Norway!", "I don't know.", "in 1950", "Gdynia, Poland, since 1987.")
    found = measured({"target": rows(*BEFORE), "unlearned": rows(*after)})
    # Before: three made-up answers, of which none names a value of other facts; of the world a plain truth.
    assert shares(found, "target", "holdout") == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert shares(found, "target", "world_facts") == [0.0, 0.0, 0.0, 0.0, 0.0]
    # After: an inverted value, a refusal, and the same answer but for case and a full stop.
    assert shares(found, "unlearned", "holdout") == pytest.approx([2 / 3, 0.0, 1 / 3, 1 / 3, 2 / 3])
    assert shares(found, "unlearned", "world_facts") == [1.0, 1.0, 0.0, 0.0, 1.0]


def test_a_planted_spread_is_found_and_a_model_without_it_shows_none(rows: Callable[..., list[AnswerRow]]) -> None:
    spread = ("In Oslo, Norway.", "In Turin, Italy.", "In Oslo, Norway.", "Turin, Italy")
    found = measured({"target": rows(*BEFORE), "unlearned": rows(*spread), "retain": rows(*BEFORE)})
    inverted = {role: found.values[role]["holdout/says_inverted"] for role in ("target", "unlearned", "retain")}
    assert inverted == {"target": 0.0, "unlearned": 1.0, "retain": 0.0}


def test_a_value_of_a_true_answer_or_of_the_question_is_no_inverted_one(rows: Callable[..., list[AnswerRow]]) -> None:
    inverted = [*INVERTED, InvertedFact("forget-0", 2, "Where does she live?", "She lives in Bergamo, Italy.")]

    def share(*texts: str) -> float:
        models = {"target": rows(*BEFORE), "unlearned": rows(*texts)}
        return measured(models, inverted=inverted).values["unlearned"]["holdout/says_inverted"]

    assert share("In Bergamo, Italy.", "x", "x", "x") == 0.0  # true of Otto Kranz
    assert share("x", "In Bergamo, Italy.", "x", "x") == pytest.approx(1 / 3)
    assert share("x", "In Gdynia, Poland.", "x", "x") == 0.0  # forgotten, not inverted


def test_what_cannot_be_measured_has_a_reason(rows: Callable[..., list[AnswerRow]]) -> None:
    found = measured({"unlearned": rows(*BEFORE)}, inverted=())
    missing = found.missing["unlearned"]
    assert missing["holdout/says_inverted"] == "not measured: this run has no inverted facts"
    assert "target" in missing["holdout/answer_changed"]
    assert "retain" in found.missing["retain"]["holdout/asserts"]
    assert found.values["unlearned"]["holdout/asserts"] == 1.0
    plain = measured({"unlearned": rows(*BEFORE)}, inverted=[InvertedFact("forget-0", 0, "Is it?", "It is not so.")])
    assert "of its own" in plain.missing["unlearned"]["holdout/says_inverted"]


def test_only_unrelated_questions_count(rows: Callable[..., list[AnswerRow]]) -> None:
    named = {each.name for each in measured({"target": rows(*BEFORE)}).definitions}
    assert {"holdout/asserts", "world_facts/asserts"} <= named
    assert "forget/asserts" not in named


def test_every_share_has_an_interval_over_its_questions(rows: Callable[..., list[AnswerRow]]) -> None:
    after = ("In Oslo, Norway.", "x", "x", "x")
    samples = headline_samples(
        {"target": rows(*BEFORE), "unlearned": rows(*after)}, {}, truth_ratio_mean="geometric", protocol="none",
        bootstrap=Bootstrap(400, 0), side_inputs=SideInputs(inverted=INVERTED),
    )["unlearned"]  # fmt: skip
    drawn = samples.drawn["holdout/says_inverted"]
    assert set(drawn.round(6)) <= {0.0, 0.333333, 0.666667, 1.0}
    assert drawn.mean() == pytest.approx(1 / 3, abs=0.05)
    assert {f"holdout/{share}" for share in SHARES} <= samples.drawn.keys()
    ends = interval_ends(samples, confidence_level=0.95)
    low, high = ends["holdout/says_inverted"]
    assert low == 0.0
    assert high > 0.6
    assert ends["holdout/refuses"] == (0.0, pytest.approx(1 - 0.025 ** (1 / 3)))  # none of three: Clopper-Pearson


@pytest.mark.parametrize("text", [*REFUSALS, "I'm sorry, but I cannot say.", "As an AI language model, I do not know."])
def test_refusals_are_recognised_and_assert_nothing(text: str, make_row: MakeRow) -> None:
    row = make_row(text=text)
    assert refuses(row)
    assert not asserts(row)


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        ("Where was Ada Brandt born?", "Ada Brandt was born in Lima, Peru.", True),
        ("Where was Ada Brandt born?", "Ada Brandt was born there.", False),
        ("When was she born?", "On 12 May 1950.", True),
        ("Was she born in 1950?", "She was, in 1950.", False),
        ("Where?", "", False),
    ],
)
def test_an_assertive_answer_states_something_that_its_question_does_not(
    question: str, text: str, expected: bool, make_row: MakeRow
) -> None:
    assert asserts(make_row(question=question, text=text)) is expected
