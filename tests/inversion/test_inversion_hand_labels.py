"""The table of hand-labelled inverted facts in the docs is that of the files in ``experiments/expected``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments" / "expected" / "inverted_facts"
LABELS = ("sensible", "off", "nonsense", "true")
PAGE = (ROOT / "docs" / "guides" / "inverted-facts.md").read_text(encoding="utf-8")


def row(source: str) -> str:
    lines = (FOLDER / f"forget01_{source}.jsonl").read_text(encoding="utf-8").splitlines()
    labels = Counter(json.loads(line)["label"] for line in lines)
    assert set(labels) <= set(LABELS)
    cells = [str(len(lines)), *(f"{labels[label]} ({labels[label] / len(lines):.0%})" for label in LABELS)]
    return f"| `{source}` | {' | '.join(cells)} |"


@pytest.mark.parametrize("source", ["rules", "self", "local"])
def test_the_docs_show_the_labels(source: str) -> None:
    assert row(source) in PAGE.splitlines()
