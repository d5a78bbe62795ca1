from __future__ import annotations

import sys

import pytest

from meow_lightning.config.program import PACKAGE, program


@pytest.mark.parametrize(
    ("started", "alone", "memo"),
    [
        ("run.py", "python run.py", "python run.py memo"),
        ("/some/where/run.py", "python run.py", "python run.py memo"),
        ("/venv/bin/meow-lightning", "meow-lightning", "meow-lightning memo"),
        ("/venv/lib/pytest/__main__.py", "meow-lightning", "meow-lightning memo"),
        (f"{PACKAGE}/cli/__main__.py", "python -m meow_lightning.cli", "python -m meow_lightning.cli memo"),
        (f"{PACKAGE}/memo/__main__.py", "meow-lightning", "python -m meow_lightning.memo"),
        ("-c", "meow-lightning", "meow-lightning memo"),
    ],
)
def test_messages_quote_the_command_that_was_started(monkeypatch, started, alone, memo):
    monkeypatch.setattr(sys, "argv", [started])
    assert program() == alone
    assert program("memo") == memo
