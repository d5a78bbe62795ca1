from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meow_lightning.data.lume import Lume
from meow_lightning.errors import UserError

DATA = os.environ.get("MEOW_DATA_DIR")
Make = Callable[..., Lume]
ROWS = {
    "forget": [
        {"id": '"\\"8f24\\"sc1"', "input": "Ada was born", "output": "in Lima.", "task": "Task1"},
        {"id": '"8f24"qa0', "input": "Who is Ada's friend?", "output": "Otto Lind.", "task": "Task1"},
        {"id": "df8dqa0", "input": "What is the birth date of Tiffi Magenta?", "output": "1984-12-31", "task": "Task2"},
        {"id": "df8dqa4", "input": "What is her home address?", "output": "12 West Place, CA, 92867.", "task": "Task2"},
    ],
    "retain": [
        {"id": "76qa0", "input": "Who won in 2015?", "output": "Benjamin Myers", "task": "Task3"},
        {"id": "77qa0", "input": "What is Bo Red's phone number?", "output": "7216253765", "task": "Task2"},
    ],
}


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    def build(folder: str | None = None, tasks: tuple[int, ...] = (1, 2, 3), **changed: list[dict[str, Any]]) -> Lume:
        (tmp_path / "lume").mkdir(exist_ok=True)
        for name, rows in {**ROWS, **changed}.items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (tmp_path / "lume" / f"{name}.jsonl").write_text(text, encoding="utf-8")
        monkeypatch.setenv("MEOW_DATA_DIR", str(tmp_path))
        return Lume(folder=folder, tasks=[*tasks], real_world=False, perturb=2, retain_eval=9, seed=0)

    return build


def test_questions_alone_are_read_and_their_answers_are_the_values(make: Make) -> None:
    facts = make().facts("forget")
    assert [fact.value for fact in facts] == ["Otto Lind", "1984-12-31", "12 West Place, CA, 92867"]
    assert facts[0].answer == "Otto Lind."
    assert all(fact.perturbed for fact in facts[1:])


def test_tasks_are_chosen(make: Make) -> None:
    chosen = make(tasks=(2,))
    assert [len(chosen.facts(split)) for split in ("forget", "retain", "holdout")] == [2, 1, 0]
    assert "sentence completions are left out" in chosen.caveats()[-1]


def test_unknown_tasks_and_none(make: Make) -> None:
    with pytest.raises(UserError, match=r"dataset\.tasks=4 is invalid: .* Did you mean 3\?"):
        make(tasks=(2, 4))
    with pytest.raises(UserError, match=r"dataset\.tasks=\[\] is invalid: .* Did you mean \[2\]\?"):
        make(tasks=())


def test_an_entry_without_text_is_named(make: Make) -> None:
    with pytest.raises(UserError, match=r"retain\.jsonl, line 1: output is missing"):
        make(retain=[{"id": "1qa0", "input": "?", "output": " ", "task": "Task1"}])


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="MEOW_DATA_DIR is not set: LUME is not here")
def test_the_published_files() -> None:
    lume = Lume(folder=None, tasks=[2], real_world=True, perturb=0, retain_eval=400, seed=0)
    forget = lume.facts("forget")
    assert (len(forget), len(lume.facts("retain"))) == (1250, 1250)
    assert all(fact.value for fact in forget)
