"""A method with its own inference, through the functions of the library."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.assistant import Assistant
from helpers.library import dataset, language_model

import meow_lightning as meow


def test_its_model_is_scored_and_evaluated_but_not_saved(tmp_path: Path) -> None:
    facts = dataset(limit=2)
    start = language_model(facts)
    quick = meow.memo.load_measure("clean", max_new_tokens=4, stride=20)
    recipe = {"lr": 1e-2, "epochs": 4, "global_batch_size": 2}
    done = meow.unlearn(start, facts, method=Assistant(weight=0.75), **recipe)
    report = meow.evaluate(done, facts, target=start, measure=quick, options=["evaluation.max_new_tokens=4"])
    assert report["forget/probability"] < report.value("forget/probability", role="target")
    assert [each.fact for each in report.scores["unlearned"]] == [fact.id for fact in facts.forget]
    for refused in (
        lambda: done.save_pretrained(tmp_path / "out"), lambda: meow.unlearn(done, facts, method="npo"), done.copy,
    ):  # fmt: skip
        with pytest.raises(meow.UserError, match=r"Assistant .*meow\.run"):
            refused()
    assert not (tmp_path / "out").exists()
