"""docs/tutorials: the Python of every page runs from top to bottom, on a small random model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.doc_commands import ROOT
from helpers.model_families import save_family

import meow_lightning as meow

PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


def blocks(page: Path) -> list[tuple[int, str]]:
    """List the Python blocks of a page with the number of their first line."""
    found, lines, start = [], page.read_text(encoding="utf-8").splitlines(), None
    for number, line in enumerate(lines, start=1):
        if start is None and line == "```python":
            start = number + 1
        elif start is not None and line == "```":
            found.append((start, "\n".join(lines[start - 1 : number - 1])))
            start = None
    return found


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = ["Ada Brook was born in Lima in 1971.", "Which prize did Ben Cole win? Ben Cole won the Golden Harp."]
    save_family("qwen2_5_1_5b_instruct", tmp_path / "my-model", texts=texts)
    names: dict[str, Any] = {"__name__": "tutorial"}
    assert blocks(page)
    for line, code in blocks(page):
        # Blank lines in front, so that a traceback names the line of the page.
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)


def test_the_page_about_the_library_shows_every_function() -> None:
    code = "".join(code for _, code in blocks(ROOT / "docs" / "tutorials" / "library.md"))
    functions = {name for name in meow.__all__ if name[0].islower()} | {"LanguageModel"}
    assert {name for name in functions if f"meow.{name}" not in code and f"meow_lightning.{name}" not in code} == set()
