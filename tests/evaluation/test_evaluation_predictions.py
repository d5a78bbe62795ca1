from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.predictions import by_set, read_rows, write_rows
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]


def test_exact_round_trip(make_row: MakeRow, tmp_path: Path) -> None:
    source = random.Random(0)
    rows = [
        make_row(
            "retain",
            index,
            truth=[-source.expovariate(1.0) for _ in range(5)],
            paraphrase=None if index % 2 else [-1e-320, -0.1],
            perturbed=[[-1 / 3], [-1e300, -float("inf")]],
            value=None if index % 2 else "größte “Stadt”",
            text="two\nlines\r and \u2028 more\x85",
            gradient=None if index % 2 else 1 / 3,
        )
        for index in range(4)
    ]
    path = tmp_path / "rows.jsonl"
    write_rows(path, iter(rows))
    assert read_rows(path) == rows
    assert len(path.read_bytes().split(b"\n")) == 5
    # the stored form is the plain form of the dataclass
    first = path.read_text(encoding="utf-8").split("\n")[0]
    assert json.loads(first) == json.loads(json.dumps(dataclasses.asdict(rows[0])))


def test_arrays_are_stored_as_numbers(make_row: MakeRow, tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    row = make_row(truth=[-0.5, -0.25])
    array = dataclasses.replace(row.truth, logps=numpy.array([-0.5, -0.25]), ids=numpy.array([0, 1]))
    path = tmp_path / "rows.jsonl"
    write_rows(path, [dataclasses.replace(row, truth=array)])
    assert read_rows(path) == [row]


def test_rows_of_before_gradients_were_taken_have_none(make_row: MakeRow, tmp_path: Path) -> None:
    row = make_row()
    stored = dataclasses.asdict(row)
    del stored["gradient"]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(stored) + "\n", encoding="utf-8")
    assert read_rows(path) == [row]
    assert row.gradient is None


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rows\.jsonl does not exist: run the stage `predict` first"):
        read_rows(tmp_path / "rows.jsonl")


def test_cut_off_file(make_row: MakeRow, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [make_row(index=0), make_row(index=1)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"line 2 of .*rows.jsonl is not a prediction row of this version"):
        read_rows(path)


@pytest.mark.parametrize("line", ["[]", '{"set": "forget"}', '{"nonsense": 1}'])
def test_foreign_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 1 of .*delete the file and run the stage `predict` again"):
        read_rows(path)


def test_by_set_sorts(make_row: MakeRow) -> None:
    rows = [make_row("retain", 1), make_row("forget", 0), make_row("retain", 0)]
    sets = by_set(rows)
    assert list(sets) == ["retain", "forget"]
    assert [row.index for row in sets["retain"]] == [0, 1]
    assert by_set([]) == {}


def test_by_set_refuses_gaps(make_row: MakeRow) -> None:
    with pytest.raises(UserError, match="set 'forget' contains index 1 not at all; expected every index from 0 to 2"):
        by_set([make_row("forget", 0), make_row("forget", 2)])
    with pytest.raises(UserError, match="contains indices 0, 1, 2 and 2 more not at all"):
        by_set([make_row("forget", 5)])


def test_by_set_refuses_doubles(make_row: MakeRow) -> None:
    with pytest.raises(UserError, match="set 'retain' contains index 0 more than once"):
        by_set([make_row("retain", 0), make_row("forget", 0), make_row("retain", 0)])
