"""Files of JSON objects that people bring: JSON lines or one JSON list, each mistake named by its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from meow_lightning.types import UserError

Entry = dict[str, Any]


def read_entries(path: Path, *, option: str, holds: str) -> list[tuple[int, Entry]]:
    """(line or entry number from 1, object) of every object in a file, blank lines left out.

    Args:
        path: The file, UTF-8: one JSON object per line, or one JSON list of objects.
        option: How the user named the file, such as ``dataset.forget``; for the messages.
        holds: What the file should hold, in words, such as ``a question and its answers``.

    Raises:
        UserError: The file cannot be read, is not UTF-8, is empty, or holds something that is no JSON object.
    """
    text = _text(path, option=option, holds=holds)
    if text.lstrip().startswith("["):
        try:
            found = list(enumerate(json.loads(text), 1))
        except ValueError as error:
            raise UserError(
                f"{option}={path} is not valid JSON ({error}); mend it or write one object per line"
            ) from error
    else:
        lines = enumerate(text.split("\n"), 1)
        found = [(number, _line(path, number, line, option=option)) for number, line in lines if line.strip()]
    if not found:
        raise UserError(f"{option}={path} is empty; each line needs {holds}")
    for number, entry in found:
        if not isinstance(entry, dict):
            raise UserError(f"{option}={path}, entry {number}: no JSON object; each entry needs {holds}")
    return found


def _text(path: Path, *, option: str, holds: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(
            f"{option}={path} cannot be read ({error.strerror}); give a file of lines with {holds}"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{option}={path} is not UTF-8 ({error.reason}); save it as UTF-8") from error


def _line(path: Path, number: int, line: str, *, option: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        form = "" if line.lstrip().startswith("{") else ' such as {"question": "…", "answer": "…"}'
        raise UserError(
            f"{option}={path}, line {number}: not JSON ({error}); write one object per line{form}"
        ) from error
