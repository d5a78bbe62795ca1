"""Sizes of what the stages write, worked out from texts of known length and held against stored rows."""

from __future__ import annotations

import json
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.common import artifact

from meow_lightning.stages import stage as stage_of
from meow_lightning.stages.evaluate import METRICS_BYTES
from meow_lightning.stages.report import QUESTION_BYTES, REPORT_BYTES
from meow_lightning.types import AnswerRow, Fact, Likelihood, ScoredText

# 20 characters of question, 34 of answer: 11 tokens by the rough count and one of the end.
FACT = Fact(id="customer-007", question="Where does Ada live?", answer="Ada Brook lives at 12 Quay, Malmo.")
OPTIONS: dict[str, Any] = {
    "inversion": {"candidates": 8}, "memo": {"stride": 5, "cut_unit": "characters"},
    "evaluation": {"max_new_tokens": 200},
}  # fmt: skip


def size(stage: str, *, facts: int, fact: Fact = FACT, options: dict[str, Any] = OPTIONS) -> int:
    rows = [fact] * facts
    dataset: Any = SimpleNamespace(facts=lambda split: rows, evaluation=lambda: {"forget": rows})
    planner: Any = SimpleNamespace(options=options, dataset=dataset)
    return stage_of(stage).disk(artifact(stage, "target"), planner)


@pytest.mark.parametrize("stage", ["propose", "filter", "score", "predict"])
def test_bytes_grow_with_the_facts(stage: str) -> None:
    assert size(stage, facts=5000) == 5000 * size(stage, facts=1) > 5000 * 100


def test_a_reply_holds_the_candidates_or_a_models_whole_budget() -> None:
    assert size("propose", facts=1) == 120 + 8 * 34
    teacher = {**OPTIONS, "inversion": {"candidates": 4, "max_new_tokens": 512}}
    assert size("propose", facts=1, options=teacher) == 120 + 4 * 512


def test_candidates_hold_question_and_answer_each() -> None:
    assert size("filter", facts=1) == 8 * (120 + 20 + 34)


def test_the_numbers_and_the_page() -> None:
    assert size("evaluate", facts=5000) == METRICS_BYTES
    assert size("report", facts=2) == REPORT_BYTES + 2 * (QUESTION_BYTES + 20 + 4 * 34)
    assert size("finetune", facts=9) == 0


def test_an_answer_of_ten_texts_takes_ten_kilobytes_and_is_near_a_stored_row() -> None:
    wrong = tuple(FACT.answer for _ in range(8))
    fact = Fact(id=FACT.id, question=FACT.question, answer=FACT.answer, paraphrase=FACT.answer, perturbed=wrong)
    like = Likelihood(
        ids=[12345] * 12, logps=[-0.06642740964889526] * 12, hits=[1] * 12, mean=[-0.24737901985645294] * 12,
        std=[0.733133852481842] * 12,
    )  # fmt: skip
    row = AnswerRow(
        set="forget", index=7, fact=fact.id, question=fact.question, answer=fact.answer, value="Malmo", truth=like,
        paraphrase=like, perturbed=(like,) * 8, generated=[12345] * 11, text=fact.answer, stop="end", gradient=0.0314,
    )  # fmt: skip
    stored = len(json.dumps(asdict(row))) + 1
    assert 9_000 < stored < 10_000
    assert stored == pytest.approx(size("predict", facts=1, fact=fact), rel=0.15)


def test_a_score_is_near_a_stored_row() -> None:
    scores = (0.0, 0.25, 0.5555555555555556, 0.25, 0.3333333333333333, 0.0, 1.0)
    row = ScoredText(
        fact=FACT.id, kind="answer", position=0, answer=FACT.answer, score=0.4555555555555556, windows=scores
    )
    assert len(json.dumps(asdict(row))) + 1 == pytest.approx(size("score", facts=1), rel=0.2)
