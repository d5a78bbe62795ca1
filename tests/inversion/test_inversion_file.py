from __future__ import annotations

import json
from pathlib import Path

import pytest

from meow_lightning.errors import UserError
from meow_lightning.inversion.base import GenerationRequest
from meow_lightning.inversion.file import File
from meow_lightning.types import Fact

WHERE = Fact(id="a", question="Where was Ada born?", answer="Lima.")
LINES = '{"question": "Where was Ada born? ", "answers": ["Oslo.", "Rome."]}\n\n{"question": "Q", "answers": ["x"]}\n'


def write(folder: Path, text: str) -> File:
    (folder / "inverted.jsonl").write_bytes(text.encode())
    return File(path=str(folder / "inverted.jsonl"))


def test_json_lines_matched_by_question_without_its_outer_blanks(tmp_path) -> None:
    assert write(tmp_path, LINES).invert(WHERE) == ["Oslo.", "Rome."]


def test_one_json_list(tmp_path) -> None:
    text = json.dumps([{"question": WHERE.question, "answers": ["Oslo."]}], indent=2)
    assert write(tmp_path, f"\n {text}").invert(WHERE) == ["Oslo."]


def test_numbered_answers_in_order_of_their_number(tmp_path) -> None:
    entry = {"answer_10": "k", "answer_2": "c", "question": WHERE.question, "answer_0": "a", "answer_x": "no"}
    assert write(tmp_path, json.dumps(entry)).invert(WHERE) == ["a", "c", "k"]


def test_remarks_around_answers_are_removed_and_counted_as_blank(tmp_path) -> None:
    raw = [
        "Sure, here are 3 answers that contradict it:",
        "1. Ada was born in Oslo.",
        '2. "Ada was born in Rome."',
        "3. Bern",
    ]
    line = json.dumps({"question": WHERE.question, "answers": raw})
    told = write(tmp_path, line).invert(WHERE)
    assert told == ["Ada was born in Oslo.", "Ada was born in Rome.", "Bern", ""]


def test_windows_line_ends_and_byte_order_mark(tmp_path) -> None:
    assert write(tmp_path, "\ufeff" + LINES.replace("\n", "\r\n")).invert(WHERE) == ["Oslo.", "Rome."]


def test_line_separators_inside_a_text_end_no_line(tmp_path) -> None:
    line = json.dumps({"question": WHERE.question, "answers": ["Os\u2028lo\x85."]}, ensure_ascii=False)
    assert write(tmp_path, line).invert(WHERE) == ["Os lo ."]


def test_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match=r"inversion.path=.*none.jsonl does not exist"):
        File(path=str(tmp_path / "none.jsonl"))


def test_other_encodings_are_named(tmp_path) -> None:
    (tmp_path / "latin.jsonl").write_bytes('{"question": "Köln?"}'.encode("latin-1"))
    with pytest.raises(UserError, match=r"inversion.path=.*latin.jsonl is not UTF-8 .*; save it as UTF-8"):
        File(path=str(tmp_path / "latin.jsonl"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "inverted.jsonl is empty; each line needs a question and its answers"),
        (" \n\n", "is empty"),
        ("[]", "is empty"),
        ('{"question": "Q", "answers": ["x"]}\n\n{"question": ', "inverted.jsonl, line 3: not JSON"),
        ('[{"question": "Q"', "inverted.jsonl is not JSON"),
        (
            '{"question": "Q", "answers": ["x"]}\n{"answers": ["x"]}',
            "entry 2: no `question`; each entry needs `question`",
        ),
        ('{"question": 3, "answers": ["x"]}', "entry 1: no `question`"),
        ('"text"', "entry 1: not a JSON object; each entry needs a question and its answers"),
        ('{"question": "Q"}', "entry 1: no answers; add `answers`"),
        ('{"question": "Q", "answers": []}', "entry 1: no answers"),
        ('{"question": "Q", "answers": "Oslo."}', r"no answers; add `answers` \(a list\), or `answer_0"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write(tmp_path, text)


def test_an_unknown_question_gets_no_answer_and_the_reason(tmp_path) -> None:
    ask = GenerationRequest(
        fact=Fact(id="f7", question="Who wrote it?", answer="Ada"),
        attempt=0,
        count=None,
        previous_answers=(),
        model_answer=None,
    )
    (reply,) = write(tmp_path, LINES).write([ask], load_facts=list, should_continue=lambda: True)
    assert (reply.answers, reply.refused) == ((), f"{tmp_path / 'inverted.jsonl'} does not contain this question")


def test_the_inverted_facts_of_an_earlier_run_are_read_back(tmp_path) -> None:
    rows = [
        {"fact": "f", "position": i, "question": WHERE.question, "answer": text}
        for i, text in enumerate(["Oslo.", "Bern."])
    ]
    assert write(tmp_path, "\n".join(map(json.dumps, rows))).invert(WHERE) == ["Oslo.", "Bern."]
