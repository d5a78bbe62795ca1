from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from meow_lightning.cli import chat
from meow_lightning.cli.chat import answers, lines_of, main, table, typed
from meow_lightning.errors import UserError


class Parrot:
    """A speaker that says a fixed text word by word."""

    def __init__(self, text: str) -> None:
        self.text, self.asked = text, 0

    def answer(self, question: str, *, growing) -> str:
        self.asked += 1
        words = self.text.split()
        for count in range(len(words)):
            growing(" ".join(words[:count]))
        return self.text


def test_every_model_is_asked_once_and_a_model_of_two_roles_answers_for_both() -> None:
    same, other, shown = Parrot("In Lima."), Parrot("In Oslo."), []
    found = answers({"target": same, "unlearned": same, "retain": other}, "Where?", show=shown.append)
    assert found == {"target": "In Lima.", "unlearned": "In Lima.", "retain": "In Oslo."}
    assert (same.asked, other.asked) == (1, 1)
    assert all(each.keys() == found.keys() for each in shown)


def test_answers_stand_side_by_side_under_their_roles() -> None:
    screen = Console(file=io.StringIO(), width=60)
    screen.print(table({"target": "In [red]Lima.", "unlearned": "In Oslo."}, "Where [b]was it?"))
    text = screen.file.getvalue()
    heading = next(line for line in text.splitlines() if "target" in line)
    row = next(line for line in text.splitlines() if "Lima" in line)
    assert heading.index("unlearned") == row.index("In Oslo.")
    assert "In [red]Lima." in row, "brackets of an answer are no markup"
    assert "Where [b]was it?" in text


def test_questions_come_from_the_lines_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("Where?\n\n  When?  \n", encoding="utf-8")
    assert lines_of(str(file)) == ["Where?", "When?"]
    file.write_text("\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^--ask=.*questions.txt has no questions: expected one per line$"):
        lines_of(str(file))
    with pytest.raises(UserError, match=r"^--ask=.*absent cannot be read \(.*\): expected a text file"):
        lines_of(str(tmp_path / "absent"))


def test_typed_questions_end_with_an_empty_line_or_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Where?\nWhen?\n\nWho?\n"))
    assert list(typed()) == ["Where?", "When?"]
    monkeypatch.setattr("sys.stdin", io.StringIO("Where?"))
    assert list(typed()) == ["Where?"]


def test_a_run_that_has_not_finished_is_named_with_its_command(tmp_path: Path, capsys) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("Where?", encoding="utf-8")
    assert main(["method=grad_ascent", f"outputs={tmp_path}", "--ask", str(file)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: the run has no target model in {tmp_path}/store yet: run it first, ")
    assert f"method=grad_ascent outputs={tmp_path}" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--max-new-tokens", "0"], "--max-new-tokens=0 is invalid: expected an integer of at least 1"),
        (["method=grad_ascend"], "Did you mean grad_ascent?"),
    ],
)
def test_bad_options_are_one_line(words: list[str], error: str, capsys, monkeypatch) -> None:
    monkeypatch.setattr(chat, "load_speakers", lambda *_, **__: pytest.fail("a model was loaded"))
    assert main([*words]) == 1
    said = capsys.readouterr().err
    assert error in said
    assert said.count("\n") == 1
