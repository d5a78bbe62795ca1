"""Reader of user-provided JSON files: JSON lines or one JSON list; errors name the line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from meow_lightning.data.text_files import CSV, convert, read_text
from meow_lightning.errors import UserError

Entry = dict[str, Any]
DEEPEST = 50  # nesting of lists and objects; entries of all known formats need at most three
_HEAD = re.compile(r"[^{\[]*\bquestion\b[^{\[]*[,;\t]|[^{\[]*[,;\t][^{\[]*\bquestion\b", re.IGNORECASE)


def read_entries(path: Path, *, option: str, holds: str) -> list[tuple[int, Entry]]:
    """Read every object of a file as (line or entry number from 1, object), skipping blank lines.

    Args:
        path: The file, UTF-8: one JSON object per line, or one JSON list of objects.
        option: The option that names the file, such as ``dataset.forget``; for error messages.
        holds: What the file should contain, in words, such as ``a question and its answers``.

    Raises:
        UserError: The file cannot be read, is not UTF-8, is empty, or contains something other than JSON objects.
    """
    where = f"{option}={path}"
    text = read_text(path, where=where, give=f"a file of lines with {holds}")
    if text.lstrip().startswith("["):
        entries = list(enumerate(_parsed(text, f"{where} is", "correct it or write one object per line"), 1))
    else:
        lines = enumerate(text.split("\n"), 1)
        entries = [(number, _line(path, number, line, where)) for number, line in lines if line.strip()]
    if not entries:
        raise UserError(f"{where} is empty; each line needs {holds}")
    for number, entry in entries:
        if not isinstance(entry, dict):
            raise UserError(f"{where}, entry {number}: not a JSON object; each entry needs {holds}")
        if _deep(entry):
            raise UserError(f"{where}, entry {number}: {_NESTED}; each entry needs {holds}")
    return entries


def is_list(path: Path, *, option: str) -> bool:
    """Whether a file is one JSON list instead of one object per line."""
    text = read_text(path, where=f"{option}={path}", give="a file")
    return text.lstrip().startswith("[")


_NESTED = f"lists and objects are nested more than {DEEPEST} deep"


def _parsed(text: str, what: str, remedy: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise UserError(f"{what} not readable JSON: {_NESTED}; {remedy}") from error
    except ValueError as error:
        raise UserError(f"{what} not JSON ({error}); {remedy}") from error


def _line(path: Path, number: int, line: str, where: str) -> Any:
    if _HEAD.match(line):
        raise UserError(f"{where}, line {number}: the header of a table, not JSON; {convert(path, CSV)}")
    form = "" if line.lstrip().startswith("{") else ' such as {"question": "…", "answer": "…"}'
    return _parsed(line, f"{where}, line {number}:", f"write one object per line{form}")


def _deep(value: Any) -> bool:
    """Whether lists and objects are nested more than :data:`DEEPEST` deep."""
    level = [value]
    for _ in range(DEEPEST):
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list))]
        level = [item for items in inner for item in items]
        if not level:
            return False
    return True
