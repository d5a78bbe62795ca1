"""Inverted facts from a file: written by a person, by an LLM elsewhere, or by an earlier run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meow_lightning.types import Fact, UserError


class File:
    """Reads contradicting answers, matched by question.

    The file holds JSON lines or one JSON list; each entry has ``question`` and either ``answers`` (a list) or
    ``answer_0``, ``answer_1`` … as in MEOW's published data.

    Args:
        path: The file.
    """

    def __init__(self, *, path: str) -> None:
        self.path = path
        self._answers = {entry["question"].strip(): _candidates(entry) for entry in _entries(Path(path))}

    def invert(self, fact: Fact, *, others: Sequence[Fact]) -> list[str]:
        """The file's answers to the fact's question.

        Raises:
            UserError: When the file does not know the question.
        """
        if fact.question.strip() not in self._answers:
            raise UserError(
                f"{self.path} holds no inverted answers to the question {fact.question[:80]!r} (fact {fact.id}); add a "
                "line for it or use inversion=rules"
            )
        return self._answers[fact.question.strip()]


def _candidates(entry: dict[str, Any]) -> list[str]:
    if "answers" in entry:
        return [str(answer) for answer in entry["answers"]]
    numbered = [key for key in entry if key.startswith("answer_") and key.removeprefix("answer_").isdigit()]
    return [str(entry[key]) for key in sorted(numbered, key=lambda key: int(key.removeprefix("answer_")))]


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(
            f"inversion.path={path} cannot be read ({error.strerror}); give a file of inverted answers"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"inversion.path={path} is not UTF-8 ({error.reason}); save it as UTF-8") from error
    if text.lstrip().startswith("["):
        try:
            entries = json.loads(text)
        except ValueError as error:
            raise UserError(f"{path} is not valid JSON ({error})") from error
    else:
        entries = [_line(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not entries:
        raise UserError(f"{path} is empty; each line needs a question and its answers")
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("question"), str):
            raise UserError(f"{path}, entry {number}: no question; each entry needs question and answers")
        if not isinstance(entry.get("answers", []), list) or not _candidates(entry):
            raise UserError(f"{path}, entry {number}: no answers; give answers (a list) or answer_0, answer_1 …")
    return entries


def _line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError as error:
        raise UserError(f"{path}, line {number}: not JSON ({error})") from error
