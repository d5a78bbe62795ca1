"""What asking a model costs, as a plan states it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.hydra import options
from helpers.models import tiny_llama

from meow_lightning.models.load import save_model
from meow_lightning.models.tiny import tokenizer_from
from meow_lightning.pipeline import build
from meow_lightning.planning.requirements import Planner
from meow_lightning.resources.requirements import InferenceWork
from meow_lightning.stages.probe import Probe


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    tokenizer = tokenizer_from(["Ada was born in Lima.", "Question: Answer:"], vocab_size=300)
    model = tiny_llama(seed=0, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    save_model(model, tokenizer, tmp_path / "model", end_ids=frozenset({tokenizer.eos_token_id}))
    rows = [{"question": f"Where was {n} born?", "answer": "Lima", "perturbed": ["Rome", "Oslo"]} for n in range(4)]
    (tmp_path / "facts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (
        "dataset=known", f"dataset.questions={tmp_path}/facts.jsonl", "dataset.forget_count=1", "model=own",
        "dataset.keep_at_least=1", f"model.target={tmp_path}/model", f"outputs={tmp_path}/outputs", "limit=2",
    )  # fmt: skip


def work_of(*words: str) -> InferenceWork:
    chosen = options(*words, small=())
    made = build.graph(chosen)
    planner = Planner(chosen.plain(), dataset=made.dataset, streams=made.streams, gpu=False, available=10**12)
    assert made.probe is not None
    assert Probe().disk(made.probe, planner) > 0
    return Probe().describe_work(made.probe, planner)


def test_every_question_is_answered_whatever_the_limit(words) -> None:
    work = work_of(*words, "dataset.max_new_tokens=20")
    assert (work.items, work.scored, work.rows) == (4, 4 * 20, 0)


def test_options_are_scored_besides(words) -> None:
    plain, scored = work_of(*words), work_of(*words, "dataset.known_by=options")
    assert scored.scored > plain.scored
    assert (plain.load.texts, scored.load.texts, scored.rows > 0) == (0, 4 * 3, True)
