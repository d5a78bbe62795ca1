"""Questions of ability tasks in local files."""

from __future__ import annotations

from pathlib import Path

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.local_questions import LocalQuestions


def local(folder: Path, **columns: str) -> LocalQuestions:
    return LocalQuestions(task="quiz", files={"test": columns}, folder=str(folder))


def test_further_files_become_columns_of_the_questions(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"goal": "Cut bread"}\n\n{"goal": "Boil water"}\n')
    (tmp_path / "labels.lst").write_text("1\n0\n")
    questions = local(tmp_path, questions="q.jsonl", label="labels.lst")
    assert questions.missing_reason() is None
    assert questions.rows("test") == [{"goal": "Cut bread", "label": 1}, {"goal": "Boil water", "label": 0}]
    assert questions.amount("test") == (2, len((tmp_path / "q.jsonl").read_bytes()))


def test_the_digests_are_those_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text("{}\n")
    before = local(tmp_path, questions="q.jsonl").digests()
    (tmp_path / "q.jsonl").write_text('{"goal": 1}\n')
    assert before.keys() == {"test"}
    assert local(tmp_path, questions="q.jsonl").digests() != before


@pytest.mark.parametrize(
    ("questions", "labels", "named"),
    [("{}\n{}\n", "1\n", "2 in q.jsonl, 1 in labels.lst"), ("", "", "0 in q.jsonl"), ("{}\n{no\n", "1\n1\n", "line 2")],
)
def test_files_that_do_not_fit_together_are_named(tmp_path: Path, questions: str, labels: str, named: str) -> None:
    (tmp_path / "q.jsonl").write_text(questions)
    (tmp_path / "labels.lst").write_text(labels)
    with pytest.raises(UserError, match=named):
        local(tmp_path, questions="q.jsonl", label="labels.lst").rows("test")


def test_a_missing_file_or_variable_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no q.jsonl in ability.folder" in str(local(tmp_path, questions="q.jsonl").missing_reason())
    around = LocalQuestions(task="quiz", files={"test": {"questions": "q.jsonl"}}, folder=None)
    monkeypatch.setenv("MEOW_DATA_DIR", str(tmp_path))
    assert "no q.jsonl in MEOW_DATA_DIR" in str(around.missing_reason())
    monkeypatch.delenv("MEOW_DATA_DIR")
    assert "MEOW_DATA_DIR, which is not set" in str(around.missing_reason())


def test_lines_of_running_text_are_read_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(" = Title = \n\nA line with\u2028a separator .\n", encoding="utf-8")
    assert local(tmp_path, questions="text.txt").lines("test") == [
        " = Title = ",
        "",
        "A line with\u2028a separator .",
        "",
    ]
