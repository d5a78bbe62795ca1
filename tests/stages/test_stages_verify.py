from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from helpers.common import runtime
from helpers.results import store_inverted

from meow_lightning.errors import UserError
from meow_lightning.models.load import save_model
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.score import Score
from meow_lightning.stages.verify import Verify
from meow_lightning.store.jsonl import read_lines, write_lines
from meow_lightning.types import InvertedFact

CONF = Path(__file__).resolve().parents[2] / "conf" / "memo"
RUNTIME = runtime()
PROMPT = {"template": "Question: {question}\nAnswer:", "answer_prefix": " ", "system": None, "date": None}
ROWS = [
    {"fact": fact, "position": position, "question": f"Where was {fact} born?", "answer": f"{fact} was born {where}."}
    for fact in ("Ada", "Bo")
    for position, where in enumerate(["in Oslo", "by the sea"])
]


@pytest.fixture
def scored(tiny, tokenizer, tmp_path: Path) -> StageContext:
    """The finished task of scoring some candidates."""
    for folder in ("score", "verify", "model", "filtered"):
        (tmp_path / folder).mkdir()
    save_model(tiny, tokenizer, tmp_path / "model" / "model", end_ids=frozenset({tokenizer.eos_token_id}))
    store_inverted(tmp_path / "filtered", [InvertedFact(**row) for row in ROWS])
    node = {**yaml.safe_load((CONF / "clean.yaml").read_text()), "max_new_tokens": 6, "stride": 2}
    del node["verify"]
    task = StageContext(
        stage="score", label="target candidates", folder=tmp_path / "score", runtime=RUNTIME,
        settings={
            "memo": {key: value for key, value in node.items() if key != "name"},
            "model": {"prompt": PROMPT, "dtype": "float32", "attention": "sdpa"},
        },
        inputs={"memo": node, "allow": []}, needs={each: tmp_path / each for each in ("model", "filtered")},
    )  # fmt: skip
    Score().run(task)
    return task


def check(scored: StageContext, windows: int, *, dtype: str = "float32", seed: int = 1) -> StageContext:
    settings = {**scored.settings, "windows": windows, "seed": seed}
    settings["model"] = {**scored.settings["model"], "dtype": dtype}
    task = dataclasses.replace(
        scored, stage="verify", folder=scored.folder.parent / f"verify{seed}", settings=settings,
        needs={**scored.needs, "scores": scored.folder},
    )  # fmt: skip
    task.folder.mkdir(exist_ok=True)
    Verify().run(task)
    return task


def test_windows_are_done_again_and_agree(scored: StageContext) -> None:
    total = sum(len(row["windows"]) for row in read_lines(scored.folder / "scores.jsonl"))
    assert scored.manifest_entries()["counts"]["windows"] == total
    task = check(scored, 15)
    rows = list(read_lines(task.folder / "checked.jsonl"))
    assert len(rows) == 15
    assert len({(row["fact"], row["position"], row["window"]) for row in rows}) == 15
    assert all(row["stored"] == row["plain"] for row in rows)
    assert task.manifest_entries() == {
        "notes": [f"15 of {total} windows recomputed one by one, 0 of their scores differ"]
    }


def test_no_more_windows_than_there_are(scored: StageContext) -> None:
    total = sum(len(row["windows"]) for row in read_lines(scored.folder / "scores.jsonl"))
    assert len(list(read_lines(check(scored, 10_000).folder / "checked.jsonl"))) == total


def test_which_windows_are_done_again_depends_on_the_seed(scored: StageContext) -> None:
    picked = [
        [
            (row["fact"], row["position"], row["window"])
            for row in read_lines(check(scored, 5, seed=n).folder / "checked.jsonl")
        ]
        for n in (1, 2)
    ]
    assert picked[0] != picked[1]


def spoil(scored: StageContext) -> None:
    rows = list(read_lines(scored.folder / "scores.jsonl"))
    rows[2]["windows"][1] += 0.25
    write_lines(scored.folder / "scores.jsonl", rows)


def test_a_score_that_differs_is_reported(scored: StageContext) -> None:
    spoil(scored)
    with pytest.raises(
        UserError,
        match=r"windows recomputed one by one, 1 of their scores differ \(most: fact Bo, candidate 0, window 1: 0\.\d+ "
        r"stored, 0\.\d+ by the plain loop\); these scores cannot be trusted: .* memo\.verify=0 skips",
    ):
        check(scored, 10_000)


def test_in_half_precision_it_is_noted_only(scored: StageContext) -> None:
    spoil(scored)
    assert "of their scores differ" in check(scored, 10_000, dtype="bfloat16").manifest_entries()["notes"][0]
