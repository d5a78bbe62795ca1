from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from helpers.common import runtime

from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.encoding import fingerprint
from meow_lightning.stages import predict
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.predict import Predict

DATASET: dict[str, Any] = {
    "_target_": "meow_lightning.data.fictional.Fictional", "split": "forget10", "authors": 20, "candidates": 4,
    "phrasings": 1, "retain_eval": 4, "seed": 0,
}  # fmt: skip


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
