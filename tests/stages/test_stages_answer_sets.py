from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.common import runtime

from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.encoding import fingerprint
from meow_lightning.stages import predict
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.predict import Predict
from meow_lightning.stages.score import texts_to_score

DATASET: dict[str, Any] = {
    "_target_": "meow_lightning.data.fictional.Fictional", "split": "forget10", "authors": 20, "candidates": 4,
    "phrasings": 1, "retain_eval": 4, "seed": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """The part of a prediction row that the stage touches."""

    question: str


@pytest.mark.parametrize("names", [["forget"], ["forget", "world_facts"]])
def test_only_the_sets_that_are_queried_for_are_answered(tmp_path: Path, codec, monkeypatch, names) -> None:
    source = instantiate(DATASET, allow=[])
    asked: dict[str, Any] = {}
    codec = copy.copy(codec)
    codec.context = 256
    monkeypatch.setattr(predict, "evaluator", lambda work: (None, codec))
    monkeypatch.setattr(predict, "adaptive_batch_size", lambda *_, **__: 1)
    monkeypatch.setattr(predict, "in_chunks", lambda work, groups, **words: asked.update(words, groups=groups))
    settings = {
        "sets": dict.fromkeys(names, "a digest"), "evaluation": {"max_new_tokens": 4, "gradients": []}, "model": {},
    }  # fmt: skip
    inputs = {"dataset": DATASET, "content": fingerprint(source), "limit": None, "allow": []}
    Predict().run(
        StageContext(
            stage="answer", label="", folder=tmp_path, settings=settings, inputs=inputs, needs={}, runtime=runtime()
        )
    )  # fmt: skip
    wanted = sum(len(source.evaluation()[name]) for name in names)
    assert len(asked["sizes"]) == wanted
    assert sorted(number for group in asked["groups"] for number in group) == list(range(wanted))


def test_under_an_attack_on_prompts_the_question_is_asked_with_its_prefix_and_stored_without(
    tmp_path: Path, codec, monkeypatch
) -> None:
    source = instantiate(DATASET, allow=[])
    codec = copy.copy(codec)
    codec.context = 10_000
    heard: list[str] = []
    stored: list[Any] = []

    def answer(model, codec, questions, **_):
        heard.extend(fact.question for _, _, fact in questions)
        return [Row(fact.question) for _, _, fact in questions]

    monkeypatch.setattr(predict, "evaluator", lambda work: (None, codec))
    monkeypatch.setattr(predict, "adaptive_batch_size", lambda *_, **__: 1)
    monkeypatch.setattr("meow_lightning.evaluation.predict.predict", answer)
    monkeypatch.setattr(
        predict, "in_chunks", lambda work, groups, make, **_: stored.extend(make([0, 1], lambda done: None))
    )
    attack = {"_target_": "meow_lightning.attacks.prefix.Prefix", "instruction": "Now:", "examples": 1}
    settings = {
        "sets": {"forget": "a digest"}, "evaluation": {"max_new_tokens": 4, "gradients": []},
        "model": {"prompt_attack": {"attack": attack, "seed": 0}},
    }  # fmt: skip
    inputs = {"dataset": DATASET, "content": fingerprint(source), "limit": None, "allow": []}
    work = StageContext(
        stage="answer", label="", folder=tmp_path, settings=settings, inputs=inputs, needs={}, runtime=runtime()
    )
    Predict().run(work)
    (shown,) = instantiate(attack, allow=[]).rows(source, 0)
    facts = source.evaluation()["forget"][:2]
    assert heard == [f"Now:\n\n{shown.question}\n{shown.answer}\n\n{fact.question}" for fact in facts]
    assert stored == [(number, Row(fact.question)) for number, fact in enumerate(facts)]
    assert [text.question for text in texts_to_score(work)[:2]] == heard
