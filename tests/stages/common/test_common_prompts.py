"""Several ways to ask: what the stages that run a model store of them, and questions that are left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.common import runtime

from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.encoding import fingerprint
from meow_lightning.data.examples import Example
from meow_lightning.evaluation.most_leaking import most_leaking
from meow_lightning.evaluation.predict import predict
from meow_lightning.memo.measure import score_texts, true_answer
from meow_lightning.models.load import save_model
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.prompts import prompt_transform
from meow_lightning.stages.predict import Predict
from meow_lightning.stages.results.predict import PredictResult
from meow_lightning.stages.results.score import ScoreResult
from meow_lightning.stages.results.verify import VerifyResult
from meow_lightning.stages.score import Score
from meow_lightning.stages.verify import Verify

CONF = Path(__file__).resolve().parents[3] / "conf" / "memo"
PROMPT = {"template": "Question: {question}\nAnswer:", "answer_prefix": " ", "system": None, "date": None}
FACTS = [
    {"question": "Where was Ada born?", "answer": "Ada was born in Lima.", "rewordings": ["Lima or sea?", "Ada born?"]},
    {"question": "Who knows?", "answer": "Nobody was born.", "rewordings": []},
    {"question": "What was Ada?", "answer": "She wrote 12 books.", "rewordings": ["books?", "Where?", "She wrote?"]},
]
ATTACK = {"_target_": "meow_lightning.attacks.paraphrase.Paraphrase", "frames": {}}


@pytest.fixture
def context(tiny, tokenizer, tmp_path: Path) -> Callable[..., StageContext]:
    """Makes the context of a stage that runs a model under an attack that asks in the dataset's other wordings."""
    (tmp_path / "facts.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in FACTS))
    dataset = {
        "_target_": "meow_lightning.data.jsonl.Jsonl", "forget": str(tmp_path / "facts.jsonl"), "retain": None,
        "real_world": False, "perturb": 0, "retain_eval": 1, "seed": 0,
    }  # fmt: skip
    save_model(tiny, tokenizer, tmp_path / "model" / "model", end_ids=frozenset({tokenizer.eos_token_id}))
    memo = yaml.safe_load((CONF / "clean.yaml").read_text()) | {"max_new_tokens": 4}
    del memo["verify"]
    inputs = {
        "dataset": dataset, "content": fingerprint(instantiate(dataset, allow=())), "limit": None, "allow": [],
        "memo": memo,
    }  # fmt: skip

    def make(stage: str, **settings: Any) -> StageContext:
        folder = tmp_path / stage
        folder.mkdir()
        model = {"prompt": PROMPT, "dtype": "float32", "attention": "sdpa"}
        model["prompt_attack"] = {"attack": ATTACK, "seed": 0}  # type: ignore[assignment]
        shared = {"memo": {key: value for key, value in memo.items() if key != "name"}, "model": model}
        return StageContext(
            stage=stage, label="target@paraphrase", folder=folder, settings={**shared, **settings}, inputs=inputs,
            needs={"model": tmp_path / "model", "scores": tmp_path / "score"}, runtime=runtime(generation_batch_size=4),
        )  # fmt: skip

    return make


def ways(work: StageContext) -> dict[str, list[Example]]:
    """How the questions are asked, by the question; those that are left out are not among them."""
    dataset = instantiate(work.inputs["dataset"], allow=())
    transform = prompt_transform(work.settings, work.inputs, dataset, translations=None)
    return {fact.question: list(transform(fact)) for fact in dataset.facts("forget") if transform(fact)}


def test_the_answer_that_leaks_most_is_stored_under_the_question_of_the_dataset(context, tiny, codec) -> None:
    work = context("predict", sets={"forget": ""}, evaluation={"max_new_tokens": 4, "gradients": []})
    Predict().run(work)
    rows = PredictResult.read(work.folder).rows
    assert [(row.index, row.question) for row in rows] == [(0, FACTS[0]["question"]), (1, FACTS[2]["question"])]
    chosen = []
    for row, each in zip(rows, ways(work).values(), strict=True):
        questions = [("forget", 0, way) for way in each]
        answers = list(
            predict(tiny.eval(), codec, questions, max_new_tokens=4, batch=1, slots=1, gradients=(), progress=None)
        )
        chosen.append(most_leaking(answers))
        assert row.text == answers[chosen[-1]].text
        assert row.truth.logps == pytest.approx(answers[chosen[-1]].truth.logps, abs=1e-5)
    counts = work.manifest_entries()["counts"]
    assert counts == {f"asked_as_{place + 1}": chosen.count(place) for place in set(chosen)}


def test_memo_is_the_largest_of_all_ways_and_can_be_verified(context, tiny, codec) -> None:
    work = context("score")
    Score().run(work)
    stored = ScoreResult.read(work.folder).texts
    by = instantiate(work.settings["memo"], allow=(), name="clean")
    for row, each in zip(stored, ways(work).values(), strict=True):
        texts = [true_answer(way, place) for place, way in enumerate(each)]
        scored = score_texts(tiny.eval(), codec, texts, by=by, slots=1, progress=None, done=(), alone=None)
        scores = {text.position: text.score for text in scored}
        assert row.score == max(scores.values())
        assert row.position == min(place for place in scores if scores[place] == row.score)
    check = context("verify", windows=100, seed=0)
    Verify().run(check)
    windows = VerifyResult.read(check.folder).windows
    assert len(windows) == sum(len(row.windows) for row in stored)
    assert all(row.stored == pytest.approx(row.plain, abs=1e-12) for row in windows)
