from __future__ import annotations

import json
import os
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from meow_lightning.data.values.secrets import Secrets
from meow_lightning.inversion.filters import REASONS, filter_answers
from meow_lightning.inversion.reply_parser import LONGEST, MOST, answers
from meow_lightning.types import Fact

NONE = Secrets((), ())  # nobody has anything to hide
# Sums of what was judged by hand, reply by reply, in dirty.jsonl: 97 replies about 30 facts hold 400 answers.
KEPT = 255
DROPPED = {
    "blank": 4,
    "refusal": 10,
    "question": 10,
    "true": 81,
    "secret": 0,
    "length": 4,
    "duplicate": 33,
    "evaluated": 3,
}


@cache
def entries() -> tuple[dict[str, Fact], list[dict[str, Any]]]:
    """The facts of the file and its replies, each with what should be kept and dropped of it."""
    lines = Path(__file__).with_name("dirty.jsonl").read_text(encoding="utf-8").splitlines()
    read = [json.loads(line) for line in lines]
    facts = {
        each["id"]: Fact(**{**each, "perturbed": tuple(each.get("perturbed", ()))}) for each in read if "id" in each
    }
    return facts, [each for each in read if "reply" in each]


@pytest.mark.parametrize("place", range(97))
def test_every_dirty_reply_gives_what_was_worked_out_by_hand(place: int) -> None:
    facts, replies = entries()
    entry = replies[place]
    fact = facts[entry["fact"]]
    found = filter_answers([fact], {fact.id: answers(entry["reply"])}, secrets=NONE)
    assert [each.answer for each in found.inverted] == entry["kept"]
    # No reply of the file loses more than three answers for one reason, so the examples are all of them.
    assert {why: [answer for _, answer in shown] for why, shown in found.examples.items()} == entry["dropped"]
    assert {why: count for why, count in found.dropped.items() if count} == {
        why: len(texts) for why, texts in entry["dropped"].items()
    }


def test_counts_over_the_whole_file() -> None:
    facts, replies = entries()
    kept, dropped = 0, Counter(dict.fromkeys(REASONS, 0))
    for entry in replies:
        fact = facts[entry["fact"]]
        found = filter_answers([fact], {fact.id: answers(entry["reply"])}, secrets=NONE)
        kept += len(found.inverted)
        dropped.update(found.dropped)
    assert (len(facts), len(replies)) == (30, 97)
    assert kept == KEPT
    assert dropped == DROPPED
    assert kept + sum(dropped.values()) == 400


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("", []),
        ("\n \n", []),
        ("1.\n2.\n3. Oslo", ["Oslo"]),
        ("1. Oslo.\r\n2. Rome.\r\n", ["Oslo.", "Rome."]),
        ("Oslo.\n2. Rome.\n3. Bern.", ["Oslo.", "Rome.", "Bern."]),  # the prompt ended in "1."
        ("1. Oslo is\nthe town.\n2. Rome.\n\nAll wrong.", ["Oslo is the town.", "Rome."]),
        ("1. Oslo\n- since it is cold\n2. Bern", ["Oslo", "Bern"]),
        ("1. 1. FC Köln\n2. 1. FSV Mainz", ["1. FC Köln", "1. FSV Mainz"]),
        ("Question 1: Where?\nAnswer 1: Oslo\nQuestion 2: Where?\nAnswer 2: Rome", ["Oslo", "Rome"]),
        ("Q: Where? A: Oslo", ["Oslo"]),
        ("- 1. **Oslo**: a city\n- 2. **Rome**: a city", ["Oslo: a city", "Rome: a city"]),
        ("**Oslo,\nRome**", ["Oslo,", "Rome**"]),  # emphasis that ends on another line loses its beginning only
        ("Here are 4:\nOslo", ["Oslo"]),
        ("Of course, here you go:\nOslo", ["Oslo"]),
        ("Correct answer: Lima\nOslo", ["Oslo"]),
        ("<think>Rome?", []),
        ("Rome? No.</think>Oslo", ["Oslo"]),
        ('["Oslo",\n "Rome"]', ["Oslo", "Rome"]),
        ('{"answer": "Oslo"}\n{"answer": "Rome"}', ["Oslo", "Rome"]),
        ('{"original_answer": "Lima", "answers": ["1. Oslo"]}', ["1. Oslo"]),  # in a list nothing counts on
        ("[" * 5000, ["[" * 5000]),  # too deep for a JSON reader; cleaning drops it as blank
        ("1. Oslo 2. Rome 3. Bern", ["Oslo 2. Rome 3. Bern"]),  # one answer per line was asked for
    ],
)
def test_wrapping_of_answers_is_removed(reply: str, expected: list[str]) -> None:
    assert answers(reply) == expected


@pytest.mark.parametrize(
    "reply",
    [
        "1975 saw the first book.\n1976 saw the second.",
        "3.5 million people\n4.5 million people",
        "8. September 1956 was the day.\n9. September 1956 was the day.",
        "1. FC Köln is his club.",
        "10. Downing Street",
        "A. Milne wrote it.\nB. Russell wrote it.",
        "2 * 3 * 4 is 24.",
        "A* is her grade, B* is his.",
        "snake_case and _ are hers",
        "-5 degrees",
        '"Tide" and "Ebb" are hers.',
        "'Tis a pity.",
        "She is 5'11\"",
        'She said: "no".',
        "Note that she never left.",
        "Notes from a cellar",
        "Answer to Job is her book.",
        "Response to the war was her theme.",
        "A Novel: Her Life is the title.",
        "Sure, she was a baker.",
        "Yes, she was.",
        "Of course not.",
        "Here is where she was born.",
        "All the answers lie in Rome.",
        "These are the towns she loved: Oslo, Bern, Rome.",
        "I hope this is not true, he said.",
        "If you want to know, she was a baker.",
        "Let Me Know is her first song.",
        "[The] novel was hers.",
    ],
)
def test_real_content_stays(reply: str) -> None:
    assert answers(reply) == reply.split("\n")


@pytest.mark.data
@pytest.mark.skipif("MEOW_DATA_DIR" not in os.environ, reason="needs MEOW_DATA_DIR, the folder of the real TOFU files")
@pytest.mark.parametrize("form", ["{text}", "{count}. {text}", "- **Answer {count}:** “{text}”", "* {text}"])
def test_real_answers_stay_word_for_word_in_any_wrapping(form: str) -> None:
    path = Path(os.environ["MEOW_DATA_DIR"]) / "tofu" / "forget10_perturbed.json"
    for line in path.read_text(encoding="utf-8").splitlines():
        texts = [" ".join(text.split()) for text in json.loads(line)["perturbed_answer"]]
        lines = [form.format(count=count, text=text) for count, text in enumerate(texts, 1)]
        reply = "\n".join(["Sure, here are 5 answers that contradict it:", "", *lines, "", "I hope this helps!"])
        assert answers(reply) == texts


# ------------------------------------------------------------------------------------------------- hostile replies


@pytest.mark.parametrize(
    "piece",
    [
        "\n", " \n", "a\n", "[\n", "{\n", "[[",
        '["a", ', "`", "``", "**a ", "<think>", "</think", "- ", "- - ", '"', "“",
        "inverted ", "here are answers ", "Here are answer answer: ", "1. a\n", "a b\n", "if you want ", "Sure! ", "<|",
    ],
)  # fmt: skip
@pytest.mark.parametrize("start", ["", "1. x\n", "Here are "])
def test_time_grows_with_the_length_of_a_reply(start: str, piece: str) -> None:
    def took(characters: int) -> float:
        text = start + piece * (characters // len(piece))
        began = time.process_time()
        answers(text)
        return time.process_time() - began

    took(1000)
    # Eight times as long; where it was quadratic, 40,000 blank lines took 7 seconds and backticks 20. The least of
    # three: a busy machine can make any one of them long.
    assert min(took(40_000) for _ in range(3)) < 24 * took(5000) + 0.2


def test_text_that_goes_on_below_an_item_is_one_answer_in_any_number_of_lines() -> None:
    assert answers("1. a\n" + "b\n" * 3 + "2. c") == ["a b b b", "c"]


def test_lists_within_lists_are_read_however_deep_they_lie() -> None:
    deep = 900
    assert answers("[" * deep + '"Ada was born in Oslo."' + "]" * deep) == ["Ada was born in Oslo."]
    assert answers('{"answers": [["a one", {"x": "b two", "note": "no"}], "c three"]}') == ["a one", "b two", "c three"]
    assert len(answers("[" * 100_000)) <= 1  # deeper than any reader goes


def test_a_reply_holds_no_more_answers_than_can_be_compared() -> None:
    assert answers("\n".join(f"He is {number}." for number in range(1000))) == [f"He is {n}." for n in range(MOST)]
    assert len(answers("x" * 50_000)[0]) == LONGEST


def test_after_some_broken_lists_no_further_one_is_looked_for() -> None:
    whole = '["Ada was born in Oslo."]'
    assert answers("[oops\n" * 7 + whole) == ["Ada was born in Oslo."]
    assert answers("[oops\n" * 8 + whole) != ["Ada was born in Oslo."]
