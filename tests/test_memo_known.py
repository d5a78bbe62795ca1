"""Scores of known and unknown facts: what the docs show is what the stored scores say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import memo_known
import pytest

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def test_the_page_holds_the_table_of_the_stored_scores() -> None:
    stored = json.loads((RESULTS / "memo-smollm2.json").read_text(encoding="utf-8"))
    assert memo_known.complete(stored["scores"])
    assert memo_known.table(stored["scores"]) in (RESULTS / "memo-smollm2.md").read_text(encoding="utf-8")


def test_the_figure_is_drawn_from_a_file_of_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = {"known": [1.0, 0.8], "missed": [0.1, 0.8], "authors": [0.0], "persons": [0.2, 0.4]}
    file = tmp_path / "scores.json"
    file.write_text(json.dumps({"scores": dict.fromkeys(memo_known.PROFILES, groups)}))
    monkeypatch.setattr(sys, "argv", ["memo_known.py", "draw", "--stored", str(file)])
    memo_known.main()
    assert (tmp_path / "scores.svg").read_text().count("AUC") == 3 * len(memo_known.PROFILES)
    line = next(
        line for line in capsys.readouterr().out.splitlines() if line.startswith("| `clean` | world facts answ")
    )
    assert line == "| `clean` | world facts answered right | 2 | .90 (.80 to 1.00) |  |"


def test_only_profiles_with_all_groups_are_shown() -> None:
    groups = {name: [0.5] for name in memo_known.GROUPS}
    assert memo_known.complete({"ma": groups, "el": {"known": [0.5]}}) == ["ma"]


def test_intervals_and_auc_are_those_of_the_facts() -> None:
    assert memo_known.interval([0.5, 0.5]) == (0.5, 0.5, 0.5)
    mean, low, high = memo_known.interval([0.0, 1.0] * 20)
    assert mean == 0.5
    assert 0.3 < low < 0.4
    assert 0.6 < high < 0.7
    assert memo_known.separation([1.0, 0.5], [0.0, 0.5])[0] == 0.875
