from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.common import runtime
from helpers.results import store_inverted

from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.memo.measure import Text, score_texts
from meow_lightning.models.load import save_model
from meow_lightning.stages import score
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.score import Score, texts_to_score
from meow_lightning.store.jsonl import read_lines, write_lines
from meow_lightning.types import InvertedFact

CONF = Path(__file__).resolve().parents[2] / "conf" / "memo"
RUNTIME = runtime(generation_batch_size=4)
PROMPT = {"template": "Question: {question}\nAnswer:", "answer_prefix": " ", "system": None, "date": None}
ROWS = [
    {"fact": "ada", "position": position, "question": "Where was Ada born?", "answer": answer}
    for position, answer in enumerate(["Ada was born in Oslo.", "Ada was born by the sea."])
]


@pytest.fixture
def work(tiny, tokenizer, tmp_path):
    """Makes the task of scoring inverted facts by a file of ``conf/memo``."""

    def make(name: str, rows: list[dict[str, Any]]) -> StageContext:
        for folder in ("scored", "model", "filtered"):
            (tmp_path / folder).mkdir()
        save_model(tiny, tokenizer, tmp_path / "model" / "model", end_ids=frozenset({tokenizer.eos_token_id}))
        store_inverted(tmp_path / "filtered", [InvertedFact(**row) for row in rows])
        node = yaml.safe_load((CONF / f"{name}.yaml").read_text())
        del node["verify"]
        if "max_new_tokens" in node:
            node["max_new_tokens"] = 4
        return StageContext(
            stage="score", label="target candidates", folder=tmp_path / "scored", runtime=RUNTIME,
            settings={
                "memo": {key: value for key, value in node.items() if key != "name"},
                "model": {"prompt": PROMPT, "dtype": "float32", "attention": "sdpa"},
            },
            inputs={"memo": node, "allow": []}, needs={each: tmp_path / each for each in ("model", "filtered")},
        )  # fmt: skip

    return make


@pytest.mark.parametrize("name", ["clean", "official", "ma", "el"])
def test_every_measure_scores_the_texts_in_order(work, tiny, codec: PromptEncoder, name):
    task = work(name, ROWS)
    Score().run(task)
    found = list(read_lines(task.folder / "scores.jsonl"))
    assert [(row["fact"], row["kind"], row["position"]) for row in found] == [
        ("ada", "candidate", 0), ("ada", "candidate", 1),
    ]  # fmt: skip
    by = instantiate(task.inputs["memo"], allow=[], name=name)
    texts = [Text("ada", "candidate", row["position"], row["question"], row["answer"]) for row in ROWS]
    scored = score_texts(tiny.eval(), codec, texts, by=by, slots=1, progress=None, done=(), alone=None)
    expected = {text.position: list(text.windows) for text in scored}
    assert [row["windows"] for row in found] == [expected[0], expected[1]]


def test_candidates_without_a_window_or_with_a_special_token_are_left_out_and_reported(work):
    short = {"fact": "bo", "position": 3, "question": "Where?", "answer": "a ?!"}
    marked = {"fact": "bo", "position": 4, "question": "Where?", "answer": "Bo was born in Oslo.<|end|>"}
    task = work("clean", [*ROWS, short, marked])
    Score().run(task)
    assert [(row["fact"], row["position"]) for row in read_lines(task.folder / "scores.jsonl")] == [
        ("ada", 0),
        ("ada", 1),
    ]
    assert task.manifest_entries()["notes"] == [
        "2 of 4 inverted facts are left out: too short to be measured, too long for the model, or containing special "
        "tokens"
    ]


def test_without_anything_to_measure_there_are_no_scores(work, monkeypatch):
    monkeypatch.setattr("meow_lightning.memo.measure.score_texts", lambda *_, **__: pytest.fail("scored"))
    task = work("clean", [{"fact": "bo", "position": 3, "question": "Where?", "answer": "a ?!"}])
    Score().run(task)
    assert (task.folder / "scores.jsonl").read_text() == ""


def test_candidates_of_an_earlier_round_are_not_scored_again(work, tmp_path):
    task = work("clean", ROWS)
    (tmp_path / "known").mkdir()
    store_inverted(tmp_path / "known", [InvertedFact(**ROWS[0])])
    task.needs["previous_filtered"] = tmp_path / "known"
    assert [text.position for text in texts_to_score(task)] == [1]


def test_the_scores_of_a_model_taken_over_are_taken_over(work, tmp_path, monkeypatch):
    monkeypatch.setattr(score, "evaluator", lambda _: pytest.fail("loaded"))
    task = work("clean", ROWS)
    (tmp_path / "before").mkdir()
    write_lines(tmp_path / "before" / "scores.jsonl", [{"fact": "ada", "score": 0.5}])
    (tmp_path / "model" / "same.json").write_text("{}")
    task.needs["previous"] = tmp_path / "before"
    Score().run(task)
    assert list(read_lines(task.folder / "scores.jsonl")) == [{"fact": "ada", "score": 0.5}]
