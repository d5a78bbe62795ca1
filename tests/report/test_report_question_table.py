from __future__ import annotations

import math

import pytest

from meow_lightning.report.question_table import COLUMNS, question_table
from meow_lightning.types import AnswerRow, Likelihood, ScoredText


def row(text: str, *, logp: float, value: str | None = "Lima", name: str = "forget") -> AnswerRow:
    truth = Likelihood(ids=[1, 2], logps=[logp, logp], hits=[1, 1], mean=[0.0, 0.0], std=[1.0, 1.0])
    return AnswerRow(
        set=name, index=0, fact="f1", question="Where does Ada live?", answer="Ada lives in Lima.", value=value,
        truth=truth, paraphrase=None, perturbed=(), generated=[1], text=text, stop="end",
    )  # fmt: skip


def scored(score: float) -> list[ScoredText]:
    return [ScoredText(fact="f1", kind="answer", position=0, answer="", score=score, windows=(score,))]


def cells(table: object) -> dict[str, object]:
    (line,) = table.rows  # type: ignore[attr-defined]
    return dict(zip(COLUMNS, line, strict=True))


def test_a_question_shows_both_answers_and_every_change() -> None:
    rows = {
        "target": [row("Ada lives in Lima.", logp=0.0)],
        "unlearned": [row("Ada lives in Oslo.", logp=math.log(0.25))],
        "retain": [row("I do not know.", logp=math.log(0.125))],
    }
    found = cells(question_table(rows, {"target": scored(0.75), "unlearned": scored(0.25)}, words="unicode"))
    assert [found[name] for name in COLUMNS[:7]] == [
        "forget", "Where does Ada live?", "Ada lives in Lima.", "Lima", "Ada lives in Lima.", "Ada lives in Oslo.",
        "I do not know.",
    ]  # fmt: skip
    assert (found["value accuracy before"], found["value accuracy after"], found["value accuracy change"]) == (1, 0, -1)
    # 3 of the 4 words of the true answer, in order
    assert found["ROUGE-L recall change"] == pytest.approx(0.75 - 1.0)
    assert found["probability after"] == pytest.approx(0.25)
    assert found["probability change"] == pytest.approx(-0.75)
    assert (found["MEMO before"], found["MEMO after"], found["MEMO change"]) == (0.75, 0.25, -0.5)


def test_what_is_missing_is_empty() -> None:
    found = cells(question_table({"unlearned": [row("Oslo", logp=0.0, value=None)]}, {}, words="unicode"))
    assert found["answer before"] is None
    assert found["value"] is None
    assert found["value accuracy after"] is None
    assert found["probability change"] is None
    assert found["probability after"] == 1.0
    assert question_table({"target": [row("Lima", logp=0.0)]}, {}, words="unicode") is None


def test_memo_belongs_to_questions_of_the_forget_set_alone() -> None:
    rows = {"unlearned": [row("Lima", logp=0.0, name="retain")]}
    assert cells(question_table(rows, {"unlearned": scored(0.5)}, words="unicode"))["MEMO after"] is None
