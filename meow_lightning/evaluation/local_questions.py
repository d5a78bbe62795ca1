"""The questions of an ability task in local files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meow_lightning.data.text_files import read_text
from meow_lightning.errors import UserError
from meow_lightning.store.integrity import digest

QUESTIONS = "questions"  # the file of a split that holds its questions
FOLDER = "MEOW_DATA_DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalQuestions:
    """The questions of a task in local files.

    Attributes:
        task: Name of the task.
        files: File by split and column: under ``questions`` a JSONL file whose rows are the questions, under any other
            name a text file with one JSON value per question, which becomes a column of that name.
        folder: Folder of relative files; ``None`` for the environment variable ``MEOW_DATA_DIR``.
    """

    task: str
    files: Mapping[str, Mapping[str, str]]
    folder: str | None

    def missing_reason(self) -> str | None:
        """Explain which file is missing; ``None`` if all are there."""
        around = self.folder or os.environ.get(FOLDER)
        for file in (file for columns in self.files.values() for file in columns.values()):
            if around is None and not Path(file).is_absolute():
                return f"the questions of {self.task} are in {file} below {FOLDER}, which is not set"
            if not self._path(file).is_file():
                where = "ability.folder" if self.folder else FOLDER
                return f"the questions of {self.task} are missing: there is no {file} in {where}"
        return None

    def digests(self) -> dict[str, dict[str, str]]:
        """Compute the SHA-256 of every file, by split and column."""
        return {
            split: {column: digest(self._path(file)) for column, file in columns.items()}
            for split, columns in self.files.items()
        }

    def amount(self, split: str) -> tuple[int, int]:
        """Count the questions of a split and their characters, for estimates."""
        content = self._path(self.files[split][QUESTIONS]).read_bytes()
        return sum(1 for line in content.splitlines() if line.strip()), len(content)

    def rows(self, split: str) -> list[dict[str, Any]]:
        """Read the questions of a split with all their columns.

        Raises:
            UserError: A line is not JSON, or the files of the split have different numbers of lines.
        """
        columns = {column: list(self._values(file)) for column, file in self.files[split].items()}
        counts = {column: len(values) for column, values in columns.items()}
        if len(set(counts.values())) > 1 or not counts[QUESTIONS]:
            listed = ", ".join(f"{count} in {self.files[split][column]}" for column, count in counts.items())
            raise UserError(
                f"ability.local.{self.task}.data.{split} needs one line per question in every file, and there are "
                f"{listed}"
            )
        others = [name for name in columns if name != QUESTIONS]
        return [
            {**row, **{name: columns[name][number] for name in others}} for number, row in enumerate(columns[QUESTIONS])
        ]

    def lines(self, split: str) -> list[str]:
        """Read the lines of a split's file of running text.

        Raises:
            UserError: It is not UTF-8.
        """
        path = self._path(self.files[split][QUESTIONS])
        return read_text(path, where=str(path), give="a text file").split("\n")

    def _path(self, file: str) -> Path:
        return Path(self.folder or os.environ.get(FOLDER, "")) / file

    def _values(self, file: str) -> Iterator[Any]:
        with self._path(file).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise UserError(f"{self._path(file)}, line {number}: this is not JSON ({error})") from error
