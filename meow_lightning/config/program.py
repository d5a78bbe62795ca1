"""The command that started this process, for messages that quote a command line."""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CLI = f"{PACKAGE.name}.cli"
SCRIPT = "meow-lightning"


def program(subcommand: str = "") -> str:
    """Format the command of the running program: ``python run.py``, or ``meow-lightning`` if installed.

    Args:
        subcommand: The subcommand that the message is about, such as ``memo``. If it was started as a module, the
            command names the module: ``python -m meow_lightning.memo``.
    """
    started = Path(sys.argv[0])
    module = _module(started)
    if subcommand and module not in (None, CLI):
        return f"python -m {module}"
    name = "python run.py" if started.name == "run.py" else f"python -m {CLI}" if module == CLI else SCRIPT
    return f"{name} {subcommand}".rstrip()


def _module(started: Path) -> str | None:
    """Return the module that ``python -m`` ran; ``None`` if a script was started."""
    if started.suffix != ".py" or not started.resolve().is_relative_to(PACKAGE):
        return None
    parts = started.resolve().relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__main__")
