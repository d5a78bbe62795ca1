"""The commands in README.md and docs/, and how each is checked.

Commands are in ``bash`` fences, one per line; a backslash continues a line, ``#`` starts a comment. An HTML comment on
the line before the fence determines how they are checked:

* no comment: run as is, with ``debug=fast``;
* ``<!-- check: plan -->``: planned only, with ``debug=fast``; a model or data set on the hub may be unreachable;
* ``<!-- check: help -->``: only checked that its options exist;
* ``<!-- check: slow -->``: run as without a comment, among the slow tests;
* ``<!-- check: skip REASON -->``: not run; allowed for a few kinds of commands only.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARKS = ("run", "plan", "help", "slow", "skip")
SUBCOMMANDS = {
    "memo": "memo",
    "evaluate": "evaluation",
    "fuse": "cli.fuse",
    "dashboard": "cli.dashboard",
    "leaderboard": "cli.leaderboard",
    "sweeps": "cli.sweeps",
    "verify-store": "cli.verify_store",
    "undo": "cli.undo",
    "purge": "cli.purge",
    "push": "cli.push",
}


class Fence(NamedTuple):
    """A fenced block: start of its content, language, preceding comment, lines without indentation."""

    page: str
    line: int
    language: str
    comment: str
    lines: list[str]

    @property
    def mark(self) -> str:
        """How its commands are checked; the whole comment if it is not a known mark."""
        found = re.fullmatch(r"<!-- check: (plan|help|slow|skip .+) -->", self.comment)
        return found[1].split()[0] if found else self.comment or "run"


class Command(NamedTuple):
    """A command of a page, and how it is checked."""

    page: str
    mark: str
    text: str

    @property
    def words(self) -> list[str]:
        """The words of the command as a shell splits it, without comments and leading variable assignments."""
        words = shlex.split(self.text, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        return words

    @property
    def options(self) -> list[str] | None:
        """The words after the program's name; ``None`` if it does not start an experiment."""
        words = self.words
        starts: tuple[list[str], ...] = (
            ["python", "run.py"],
            ["python", "-m", "meow_lightning.cli"],
            ["meow-lightning"],
        )
        for start in starts:
            if words[: len(start)] == start:
                rest = words[len(start) :]
                return None if rest and rest[0] in SUBCOMMANDS else rest
        return None

    @property
    def subcommand(self) -> tuple[str, list[str]] | None:
        """Module and arguments of a subcommand; ``None`` for other commands."""
        words = self.words
        for name, module in SUBCOMMANDS.items():
            path = f"meow_lightning.{module}"
            for start in (["meow-lightning", name], ["python", "run.py", name], ["python", "-m", path]):
                if words[: len(start)] == start:
                    return (path if module.startswith("cli.") else f"{path}.__main__"), words[len(start) :]
        return None


def fences(page: Path) -> Iterator[Fence]:
    """Yield the fenced blocks of a page."""
    lines = [line.strip() for line in page.read_text(encoding="utf-8").splitlines()]
    number = 0
    while number < len(lines):
        if lines[number].startswith("```"):
            end = next(at for at in range(number + 1, len(lines)) if lines[at].startswith("```"))
            comment = lines[number - 1] if number and lines[number - 1].startswith("<!--") else ""
            language = lines[number].strip("`").partition(" ")[0]
            yield Fence(str(page.relative_to(ROOT)), number + 2, language, comment, lines[number + 1 : end])
            number = end
        number += 1


def commands() -> list[Command]:
    """List every command of all pages once, at its first occurrence."""
    found: dict[tuple[str, str], Command] = {}
    for page in PAGES:
        for fence in fences(page):
            if fence.language != "bash":
                continue
            for text in "\n".join(fence.lines).replace("\\\n", " ").splitlines():
                if text and not text.startswith("#"):
                    found.setdefault((fence.mark, text), Command(fence.page, fence.mark, text))
    return list(found.values())
