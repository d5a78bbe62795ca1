from __future__ import annotations

import json
from pathlib import Path

import pytest

from meow_lightning.data.jsonl_reader import is_list, read_entries
from meow_lightning.errors import UserError


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "facts.jsonl"


def entries(path: Path) -> list:
    return read_entries(path, option="dataset.forget", holds="a question")


def told(path: Path) -> str:
    with pytest.raises(UserError) as error:
        entries(path)
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(path), "PATH")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_keep_their_numbers_and_blank_ones_are_left_out(path, end):
    path.write_bytes(end.join(["", '{"a": 1}', "  ", ' {"a": "é"} ', ""]).encode())
    assert entries(path) == [(2, {"a": 1}), (4, {"a": "é"})]


def test_a_list_is_counted_by_entry(path):
    path.write_text('\n [{"a": 1},\n\n {"a":\n 2}]')
    assert entries(path) == [(1, {"a": 1}), (2, {"a": 2})]


def test_a_byte_order_mark_is_not_part_of_the_text(path):
    path.write_bytes(b"\xef\xbb\xbf" + b'{"a": 1}')
    assert entries(path) == [(1, {"a": 1})]


def test_a_line_ends_at_its_end_alone(path):
    text = "one\u2028two\u0085three"
    path.write_text(json.dumps({"a": text}, ensure_ascii=False), encoding="utf-8")
    assert entries(path) == [(1, {"a": text})]


@pytest.mark.parametrize("text", ["", "\n \n", "[]"])
def test_an_empty_file_is_reported(path, text):
    path.write_text(text)
    assert told(path) == "dataset.forget=PATH is empty; each line needs a question"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1}\n\n{"a": \n', "line 3: not JSON (Expecting value: line 1 column 7 (char 6)); write one"),
        ('{\n "a": 1\n}\n', "line 1: not JSON (Expecting property name"),
        ('{"a": 1} {"a": 2}', "line 1: not JSON (Extra data"),
        ('{"a": 1}\n3\n', "entry 2: not a JSON object; each entry needs a question"),
        ('[{"a": 1}, "b"]', "entry 2: not a JSON object; each entry needs a question"),
    ],
)  # fmt: skip
def test_unreadable_content_is_reported_with_its_line(path, text, said):
    path.write_text(text)
    assert told(path).startswith(f"dataset.forget=PATH, {said}")


def test_a_broken_list_is_reported(path):
    path.write_text('[{"a": 1},')
    assert told(path).startswith("dataset.forget=PATH is not JSON (")
    assert told(path).endswith("; correct it or write one object per line")


def test_deep_nesting_is_reported(path):
    path.write_text('{"a": 1}\n{"a": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    nested = "not readable JSON: lists and objects are nested more than 50 deep"
    assert told(path) == f"dataset.forget=PATH, line 2: {nested}; write one object per line"
    path.write_text("[" * 100_000)
    assert told(path).startswith(f"dataset.forget=PATH is {nested}; ")
    path.write_text('{"a": ' + "[" * 60 + "]" * 60 + "}")  # little enough for the parser
    assert told(path).startswith("dataset.forget=PATH, entry 1: lists and objects are nested more than")
    path.write_text('{"a": ' + "[" * 40 + "]" * 40 + "}")
    assert len(entries(path)) == 1


def test_a_table_is_reported_with_what_converts_it(path):
    path.write_text("id,question,answer\n1,Who?,Ada.\n")
    said = told(path)
    assert said.startswith("dataset.forget=PATH, line 1: the header of a table, not JSON; convert it: python -c ")
    assert "read_csv" in said


def test_one_list_or_an_object_per_line(path):
    path.write_text('\ufeff [{"a": 1}]', encoding="utf-8")
    assert is_list(path, option="x")
    path.write_text('{"a": []}')
    assert not is_list(path, option="x")
