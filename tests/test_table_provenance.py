"""The list of published tables: complete, and honest about which are older than their code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import table_provenance
from table_provenance import moved, on_page_markdown, sentence, tables, version_now

from meow_lightning.stages import stages

ROOT = Path(table_provenance.ROOT)
FIELDS = {"page", "heading", "command", "commit", "date", "processor", "threads", "seeds", "stages"}


def test_every_table_says_how_it_was_made() -> None:
    for table in tables():
        assert table.keys() == FIELDS, table
        text = (ROOT / "docs" / table["page"]).read_text(encoding="utf-8")
        assert re.search(rf"^#+ {re.escape(table['heading'])}$", text, re.MULTILINE), table
        assert set(table["stages"]) <= stages().keys(), table
        assert re.fullmatch(r"[0-9a-f]{7,40}", table["commit"]), table


def test_every_page_of_results_is_listed() -> None:
    pages = {f"results/{path.name}" for path in (ROOT / "docs" / "results").glob("*.md")}
    assert pages - {"results/benchmarks.md"} <= {table["page"] for table in tables()}


def test_the_versions_are_those_of_the_stages() -> None:
    assert {name: version_now(name) for name in stages()} == {name: each.version for name, each in stages().items()}


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, str]:
    """Build a checkout with two stages, and return it with its first commit; then one stage moves on."""
    folder = tmp_path / "meow_lightning" / "stages"
    folder.mkdir(parents=True)

    def git(*words: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
        ran = subprocess.run(["git", "-C", tmp_path, *identity, *words], capture_output=True, text=True, check=True)
        return ran.stdout.strip()

    git("init", "-q")
    for name in ("score", "evaluate"):
        (folder / f"{name}.py").write_text("class Stage:\n    version = 3\n")
    git("add", "-A")
    git("commit", "-qm", "first")
    first = git("rev-parse", "HEAD")
    (folder / "evaluate.py").write_text("class Stage:\n    version = 5\n")
    (folder / "inspect.py").write_text("class Stage:\n    version = 1\n")
    return tmp_path, first


def test_a_stage_that_moved_on_makes_a_table_old(repository: tuple[Path, str]) -> None:
    root, first = repository
    assert moved(first, ["score", "evaluate"], root) == ["evaluate 3 → 5"]
    assert moved(first, ["score"], root) == []
    assert moved(first, ["inspect"], root) == ["inspect ? → 1"]
    assert moved("0" * 40, ["score"], root) == ["score ? → 3"]


def test_the_site_says_below_the_heading_how_a_table_was_made() -> None:
    table = tables()[0]
    page = SimpleNamespace(file=SimpleNamespace(src_uri=table["page"]))
    shown = on_page_markdown(f"# Title\n\n## {table['heading']}\n\ntext", page=page)
    assert shown.startswith(f'# Title\n\n## {table["heading"]}\n\n??? info "How the table was made"\n    Made with `')
    assert sentence(table) in shown
    other = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    assert on_page_markdown(shown, page=other) == shown


def test_a_table_that_is_older_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(table_provenance, "moved", lambda *_: ["evaluate 3 → 5"])
    assert "Older than the code it rests on (evaluate 3 → 5)" in sentence(tables()[0])
    table_provenance.main()
    assert capsys.readouterr().out.count("evaluate 3 → 5") == len(tables())
    monkeypatch.setattr(table_provenance, "moved", lambda *_: [])
    assert "Older" not in sentence(tables()[0])
