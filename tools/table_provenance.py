"""List the published tables that are older than the code they rest on; also the MkDocs hook that marks them.

``docs/results/provenance.yaml`` holds command, commit, machine, seeds and date of every table. A table is old once a
stage behind its numbers has another version than at its commit: the same command may then give other numbers.

    python tools/table_provenance.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "results" / "provenance.yaml"
STAGES = "meow_lightning/stages"
_VERSION = re.compile(r"^ *version(?:: [\w\[\]]+)? = (\d+)\b", re.MULTILINE | re.IGNORECASE)


@lru_cache(maxsize=1)
def tables() -> tuple[dict[str, Any], ...]:
    """Read the provenance of every table, in the order of the file."""
    return tuple(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def version_now(stage: str, root: Path = ROOT) -> int | None:
    """Return the version of a stage in the working tree; ``None`` if it names none.

    Args:
        stage: Name of the stage.
        root: The checkout.
    """
    return _version((root / STAGES / f"{stage}.py").read_text(encoding="utf-8"))


@lru_cache(maxsize=256)
def version_at(commit: str, stage: str, root: Path = ROOT) -> int | None:
    """Return the version of a stage at a commit; ``None`` if it names none, or stage or commit are not there.

    Args:
        commit: The commit.
        stage: Name of the stage.
        root: The checkout.
    """
    asked = ["git", "-C", str(root), "show", f"{commit}:{STAGES}/{stage}.py"]
    shown = subprocess.run(asked, capture_output=True, text=True, check=False)
    return None if shown.returncode else _version(shown.stdout)


def moved(commit: str, stages: Iterable[str], root: Path = ROOT) -> list[str]:
    """Describe the stages whose version has changed since a commit, such as ``evaluate 6 → 8``.

    Args:
        commit: The commit.
        stages: Names of the stages.
        root: The checkout.
    """
    found = []
    for stage in stages:
        before, now = version_at(commit, stage, root), version_now(stage, root)
        if before != now:
            found.append(f"{stage} {'?' if before is None else before} → {now}")
    return found


def sentence(table: Mapping[str, Any]) -> str:
    """Describe how a table was made, and what has changed since, in Markdown.

    Args:
        table: Its provenance.
    """
    seeds = ", ".join(map(str, table["seeds"]))
    made = (
        f"Made with `{table['command']}` at commit {table['commit']}, {table['date']}, {table['processor']}, "
        f"threads: {table['threads']}, seeds: {seeds}."
    )
    changed = moved(table["commit"], table["stages"])
    old = f" **Older than the code it rests on ({', '.join(changed)}): the command may give other numbers today.**"
    return made + old * bool(changed)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Put how a table was made below its heading, as a hook of MkDocs.

    Args:
        markdown: The page.
        page: What MkDocs knows of it.
    """
    for table in tables():
        if table["page"] == page.file.src_uri:
            heading = re.compile(rf"^(#+ {re.escape(table['heading'])})$", re.MULTILINE)
            note = f'??? info "How the table was made"\n    {sentence(table)}'
            markdown = heading.sub(lambda found, note=note: f"{found[1]}\n\n{note}", markdown, count=1)  # type: ignore[misc]
    return markdown


def _version(source: str) -> int | None:
    """Read the version of a stage from its file; ``None`` if it names none."""
    found = _VERSION.search(source)
    return int(found[1]) if found else None


def main() -> None:
    """Print every table that is older than a stage behind it."""
    old = [(table, changed) for table in tables() if (changed := moved(table["commit"], table["stages"]))]
    for table, changed in old:
        print(f"docs/{table['page']}, {table['heading']}: {', '.join(changed)}; {table['command']}")
    print(f"{len(old)} of {len(tables())} tables are older than a stage that they rest on", file=sys.stderr)


if __name__ == "__main__":
    main()
