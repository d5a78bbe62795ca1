"""Files of JSON objects that people bring: JSON lines or one JSON list, each mistake named by its line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from meow_lightning.data.text_files import CSV, convert, read_text
from meow_lightning.errors import UserError

Entry = dict[str, Any]
DEEPEST = 50  # lists and objects within each other; an entry of any known form needs three
_HEAD = re.compile(r"[^{\[]*\bquestion\b[^{\[]*[,;\t]|[^{\[]*[,;\t][^{\[]*\bquestion\b", re.IGNORECASE)


def read_entries(path: Path, *, option: str, holds: str) -> list[tuple[int, Entry]]:
    """(line or entry number from 1, object) of every object in a file, blank lines left out.

    Args:
        path: The file, UTF-8: one JSON object per line, or one JSON list of objects.
        option: How the user named the file, such as ``dataset.forget``; for the messages.
        holds: What the file should hold, in words, such as ``a question and its answers``.

    Raises:
        UserError: The file cannot be read, is no UTF-8 text, is empty, or holds something that is no JSON object.
    """
    where = f"{option}={path}"
    text = read_text(path, where=where, give=f"a file of lines with {holds}")
    if text.lstrip().startswith("["):
        found = list(enumerate(_parsed(text, f"{where} is", "mend it or write one object per line"), 1))
    else:
        lines = enumerate(text.split("\n"), 1)
        found = [(number, _line(path, number, line, where)) for number, line in lines if line.strip()]
    if not found:
        raise UserError(f"{where} is empty; each line needs {holds}")
    for number, entry in found:
        if not isinstance(entry, dict):
            raise UserError(f"{where}, entry {number}: no JSON object; each entry needs {holds}")
        if _deep(entry):
            raise UserError(f"{where}, entry {number}: {_NESTED}; each entry needs {holds}")
    return found


def is_list(path: Path, *, option: str) -> bool:
    """Whether a file is one JSON list, whose entries can stand on any line, and not one object per line."""
    text = read_text(path, where=f"{option}={path}", give="a file")
    return text.lstrip().startswith("[")


_NESTED = f"lists and objects stand within each other more than {DEEPEST} deep"


def _parsed(text: str, what: str, remedy: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise UserError(f"{what} not JSON that can be read: {_NESTED}; {remedy}") from error
    except ValueError as error:
        raise UserError(f"{what} not JSON ({error}); {remedy}") from error


def _line(path: Path, number: int, line: str, where: str) -> Any:
    if _HEAD.match(line):
        raise UserError(f"{where}, line {number}: not JSON but the head of a table; {convert(path, CSV)}")
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
