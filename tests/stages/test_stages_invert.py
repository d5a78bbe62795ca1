from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meow_lightning.config import build
from meow_lightning.data.rows import fingerprint
from meow_lightning.stages import invert
from meow_lightning.stages.work import Runtime, Work
from meow_lightning.types import UserError

RUNTIME = Runtime(
    accelerator="cpu", devices=1, strategy="auto", micro_batch=1, checkpointing=False, eval_batch=1, slots=1,
    checkpoint_seconds=1, log_every=1, memo_every_epochs=0, memo_every_steps=0, memo_facts=0,
)  # fmt: skip
DATASET: dict[str, Any] = {
    "_target_": "meow_lightning.data.fictional.Fictional", "split": "forget01", "authors": 5, "candidates": 4,
    "phrasings": 1, "retain_eval": 4, "seed": 0,
}  # fmt: skip


def work(folder: Path, inversion: dict[str, Any], *, at_least: int) -> Work:
    content = fingerprint(build(DATASET, allow=[]))
    inputs = {
        "dataset": DATASET, "content": content, "limit": None, "allow": [], "inversion": inversion,
        "at_least": at_least,
    }  # fmt: skip
    return Work(
        stage="invert", label="", folder=folder, settings={"inversion": {}}, inputs=inputs, needs={}, runtime=RUNTIME
    )


def test_candidates_are_written_cleaned_and_counted(tmp_path: Path) -> None:
    rules = {"_target_": "meow_lightning.inversion.rules.Rules", "candidates": 4, "seed": 0}
    invert.run(work(tmp_path, rules, at_least=4))
    # one author of 8 facts, 4 alternatives each, none of them wrong in a way that cleaning drops
    lines = [json.loads(line) for line in (tmp_path / "inverted.jsonl").read_text().splitlines()]
    assert [line["position"] for line in lines] == [0, 1, 2, 3] * 8
    counts = json.loads((tmp_path / "cleaning.json").read_text())
    assert (counts["written"], counts["kept"], sum(counts["dropped"].values())) == (32, 32, 0)


def test_too_few_candidates_are_told_here_and_not_after_training(tmp_path: Path) -> None:
    from meow_lightning.data.fictional import Fictional

    facts = Fictional(**{key: value for key, value in DATASET.items() if key != "_target_"}).facts("forget")
    # of three lines for each question one is the truth and one says nothing
    lines = [{"question": fact.question, "answers": [fact.inverted[0], fact.answer, " "]} for fact in facts]
    path = tmp_path / "inverted.json"
    path.write_text(json.dumps(lines))
    file = {"_target_": "meow_lightning.inversion.file.File", "path": str(path)}
    expected = (
        r"^8 of 8 facts keep fewer inverted facts than method\.select\.k=2 after cleaning, the first is author004/\w+ "
        r"with 1 \(question: '.*'\); bring more .*inversion.path=FILE\) or select fewer, such as method.select.k=1$"
    )
    with pytest.raises(UserError, match=expected):
        invert.run(work(tmp_path, file, at_least=2))
    assert not (tmp_path / "inverted.jsonl").exists()


def test_facts_that_changed_since_the_plan_are_told(tmp_path: Path) -> None:
    rules = {"_target_": "meow_lightning.inversion.rules.Rules", "candidates": 4, "seed": 0}
    task = work(tmp_path, rules, at_least=1)
    task.inputs["content"] = "what the plan has read"  # type: ignore[index]
    with pytest.raises(UserError, match=r"^dataset=fictional was changed while the run was on; run again, and what is"):
        invert.run(task)
    assert list(tmp_path.iterdir()) == []
