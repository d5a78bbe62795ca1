"""The tool that prints the gradient cosines of the answers that a run trained on."""

from __future__ import annotations

from pathlib import Path

import answer_cosines
import pytest

import meow_lightning as meow

WORDS = ["debug=fast", "limit=3", "logger=none", "trainer.parallel_stages=1"]


def test_a_run_has_one_row_per_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer_cosines.main([*WORDS, f"outputs={tmp_path}"])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    table = rows[-5:]
    assert table[0] == ["cosine of the gradients, 3 facts", "mean", "95 % interval", "facts below 0"]
    assert [row[0] for row in table[2:]] == list(answer_cosines.MEANINGS.values())
    for _, mean, interval, _ in table[2:]:
        low, high = map(float, interval.split(" to "))
        assert -1 <= low <= float(mean) <= high <= 1


def test_a_method_without_inverted_facts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(meow.UserError, match="method=none trains on no inverted facts"):
        answer_cosines.main([*WORDS, "method=none", f"outputs={tmp_path}"])
