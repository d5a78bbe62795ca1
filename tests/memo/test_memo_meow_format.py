from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from helpers.common import clean_profile

from meow_lightning.errors import UserError
from meow_lightning.memo.measure import Text
from meow_lightning.memo.meow_format import (
    answers,
    chunks,
    from_part,
    means,
    normalize_entries,
    part,
    texts,
    windows,
    with_scores,
)
from meow_lightning.store.durable import checked_lines
from meow_lightning.types import ScoredText

PROFILE = clean_profile(8)
ENTRIES: list[tuple[int, dict[str, Any]]] = [
    (1, {"question": "Who?", "undesired_answer": "Ada", "answer_1": "Bob", "note": 7, "answer_0": "Eve"}),
    (4, {"question": "Where?", "undesired_answer": "In Lima", "answer_0_rouge1": 0.5, "old_rouge1": 1}),
]


def scored(fact: str, kind: Any, position: int, score: float) -> ScoredText:
    return ScoredText(fact, kind, position, "text", score, (score,))


def read(entries: Any, **changes: Any) -> list[Text]:
    return texts(entries, **({"source": "--facts=f.json", "by": PROFILE, "codec": None, "skip_short": False} | changes))


def test_answers_are_the_true_one_and_the_numbered_ones():
    keys = [
        "question",
        "answer_2",
        "answer",
        "answer_x",
        "answer_02",
        "answer_0_rouge1",
        "undesired_answer",
        "answer_10",
    ]
    assert answers(dict.fromkeys(keys, "text")) == [
        ("answer_2", "candidate", 2), ("undesired_answer", "answer", 0), ("answer_10", "candidate", 10),
    ]  # fmt: skip


def test_texts_carry_the_entry_number_and_the_position():
    assert read(ENTRIES) == [
        Text("1", "answer", 0, "Who?", "Ada"),
        Text("1", "candidate", 1, "Who?", "Bob"),
        Text("1", "candidate", 0, "Who?", "Eve"),
        Text("4", "answer", 0, "Where?", "In Lima"),
    ]


PREFIX = dataclasses.replace(PROFILE, mode="prefix")


@pytest.mark.parametrize(
    ("question", "answer", "by", "kept"),
    [
        ("Who?", "ab", PROFILE, True),
        ("Who?", "a", PROFILE, False),
        ("Who?", "", PROFILE, False),
        ("Who?", "   ", PROFILE, False),
        ("W", "Ada", PROFILE, True),
        ("Who?", "a", PREFIX, True),
        ("Who?", "   ", PREFIX, False),
        ("W", "Ada", PREFIX, False),
        ("Who?", "a!", PROFILE, False),
        ("Who?", "a!", dataclasses.replace(PROFILE, empty_windows="zero"), True),
        ("Who?", "Ada", dataclasses.replace(PROFILE, cut_unit="words"), False),
        ("Who?", "Ada Lee", dataclasses.replace(PROFILE, cut_unit="words"), True),
        ("Who?", "a", None, True),  # not looked at yet
        ("Who?", " ", None, False),
    ],
)
def test_texts_without_a_window_are_left_out_on_demand(question, answer, by, kept):
    found = read([(3, {"question": question, "answer_0": answer})], by=by, skip_short=True)
    assert found == ([Text("3", "candidate", 0, question, answer)] if kept else [])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"answer_0": "Ada"}, "--facts=f.json, entry 3: no question; each entry needs `question` and its answers"),
        ({"question": " ", "answer_0": "Ada"}, "entry 3: no question"),
        ({"question": ["Who?"], "answer_0": "Ada"}, "entry 3: no question"),
        ({"question": "Who?"}, "entry 3: no answer; each entry needs .*`undesired_answer` .or `answer`., `answer_0`"),
        ({"question": "Who?", "answer_0": 5}, "entry 3, answer_0: 5 is not a string; put it in quotes"),
        ({"question": "Who?", "answer_0": None}, "entry 3, answer_0: null is not a string; put it in quotes"),
        (
            {"question": "Who?", "answer_0": "A\ud800"},
            r"entry 3: contains an unpaired surrogate .*\\ud800; write valid UTF-8",
        ),
        (
            {"question": "Who?", "answer_0": "Ada", "answer_1": "x"},
            "entry 3, answer_1: MEMO cuts .*, since candidate 1 of 3 has fewer than 2 characters; lengthen it",
        ),
        (
            {"question": "Who?", "answer_0": "  "},
            "entry 3, answer_0: MEMO cuts no window from it, since the answer is b",
        ),
        (
            {"question": "Who?", "undesired_answer": "a ?!"},
            r"since the answer of fact 3 has no word after its first cut; lengthen it, leave it out, or",
        ),
        ({"question": "Who?", "answer_0": ""}, "the answer is blank; lengthen it, leave it out, or add --skip-short"),
    ],
)
def test_entries_that_cannot_be_scored_are_named_by_entry_and_key(entry, message):
    with pytest.raises(UserError, match=message):
        read([(3, entry)])


def test_a_question_of_one_character_is_named_in_prefix_mode():
    with pytest.raises(UserError, match=r"entry 3, answer_0: .* since the question of fact 3 has fewer than 2 chara"):
        read([(3, {"question": "W", "answer_0": "Ada"})], by=PREFIX)


def test_short_answers_are_skipped_on_demand_and_get_null():
    entries = [(3, {"question": "Who?", "answer_0": "x", "answer_1": "Ada"})]
    wanted = read(entries, skip_short=True)
    assert wanted == [Text("3", "candidate", 1, "Who?", "Ada")]
    (made,) = with_scores(entries, [scored("3", "candidate", 1, 0.25)], requested=wanted, suffix="rouge1")
    assert made == {
        "question": "Who?",
        "answer_0": "x",
        "answer_1": "Ada",
        "answer_0_rouge1": None,
        "answer_1_rouge1": 0.25,
    }


def test_scores_come_behind_the_own_keys_and_replace_old_ones():
    results = [
        scored("4", "answer", 0, 0.4), scored("1", "candidate", 0, 0.1),
        scored("1", "answer", 0, 0.2), scored("1", "candidate", 1, 0.3),
    ]  # fmt: skip
    first, second = with_scores(ENTRIES, results, requested=read(ENTRIES), suffix="rouge1")
    assert list(first.items()) == [
        *ENTRIES[0][1].items(), ("undesired_answer_rouge1", 0.2), ("answer_1_rouge1", 0.3), ("answer_0_rouge1", 0.1),
    ]  # fmt: skip
    rest = {
        "question": "Where?",
        "undesired_answer": "In Lima",
        "old_rouge1": 1,
    }  # no answer's: whose it is we cannot know
    assert second == {**rest, "undesired_answer_rouge1": 0.4}


def test_another_rouge_ends_the_key_and_leaves_the_first():
    entries = [(1, {"question": "Who?", "answer_0": "Ada", "answer_0_rouge1": 0.5, "answer_0_rougeL": 0.6})]
    (made,) = with_scores(entries, [scored("1", "candidate", 0, 0.7)], requested=read(entries), suffix="rougeL")
    assert made == {"question": "Who?", "answer_0": "Ada", "answer_0_rouge1": 0.5, "answer_0_rougeL": 0.7}


def test_a_missing_result_is_no_null():
    with pytest.raises(ValueError, match="entry 4, undesired_answer has no score"):
        with_scores(ENTRIES[1:], [], requested=read(ENTRIES), suffix="rouge1")


def count(wanted: list[Text], by: Any) -> int:
    return windows(wanted, by=by, codec=None)


def test_windows_are_counted_without_a_model():
    # "Ada", "Bob", "Eve" after 1 character each, "In Lima" after 1 and 6; "Who?" after 1, "Where?" after 1 only
    wanted = read([(1, ENTRIES[0][1]), (2, {"question": "Where?", "answer_0": "In Lima"})])
    assert count(wanted, PROFILE) == 3 + 2
    assert count(wanted, dataclasses.replace(PROFILE, mode="prefix")) == 3 + 1
    assert count(wanted, dataclasses.replace(PROFILE, stride=2)) == 3 + 3


def test_chunks_hold_whole_entries_and_enough_windows():
    wanted = [
        Text(fact, "candidate", n, "Who?", "Ada")
        for fact, count in (("1", 2), ("2", 1), ("3", 4), ("4", 1))
        for n in range(count)
    ]
    found = [[text.fact for text in chunk] for chunk in chunks(wanted, by=PROFILE, codec=None, least=3)]
    assert found == [["1", "1", "2"], ["3", "3", "3", "3"], ["4"]]
    assert list(chunks([], by=PROFILE, codec=None, least=3)) == []


def test_means_tell_true_answers_from_candidates():
    results = [scored("1", "answer", 0, 0.5), scored("1", "candidate", 0, 0.1), scored("1", "candidate", 1, 0.2)]
    assert [line.split() for line in means(results)] == [
        ["true", "answers", "1", "mean", "score", "0.5000"], ["candidates", "2", "mean", "score", "0.1500"],
    ]  # fmt: skip
    assert means(results[:1])[1].endswith("mean score -")


def test_a_part_gives_back_what_it_was_given(tmp_path):
    results = [ScoredText("1", "candidate", 2, "Ada é", 1 / 3, (0.1, 2 / 3)), scored("2", "answer", 0, 0.0)]
    (tmp_path / "part").write_text(part(results[:1], head={"mode": "suffix"}) + part(results[1:], head=None))
    rows, damaged = checked_lines(tmp_path / "part")
    assert from_part(rows, damaged=damaged, head={"mode": "suffix"}, source="s.part") == results
    assert from_part([], damaged=0, head={"mode": "suffix"}, source="s.part") == []


@pytest.mark.parametrize(
    ("rows", "damaged", "message"),
    [
        ([{"mode": "prefix", "model": "m"}], 0, r"s\.part has other settings \(mode\); give another --out"),
        ([{}], 0, r"has other settings \(mode, model\)"),
        ([], 1, r"s\.part is not a partial result of this command; .*or remove that file to start over"),
    ],
)
def test_parts_of_something_else_are_refused(rows, damaged, message):
    with pytest.raises(UserError, match=message):
        from_part(rows, damaged=damaged, head={"mode": "suffix", "model": "m"}, source="s.part")


def test_ones_own_facts_are_read_in_their_own_spelling():
    given = [(2, {"question": "Who?", "answer": "Ada", "value": "Ada", "inverted": ["Bob", "Eve"]}), ENTRIES[0]]
    own, published_one = normalize_entries(given, source="--facts=f")
    assert own == (2, {"question": "Who?", "answer": "Ada", "value": "Ada", "answer_0": "Bob", "answer_1": "Eve"})
    assert published_one == ENTRIES[0]
    assert answers(own[1]) == [("answer", "answer", 0), ("answer_0", "candidate", 0), ("answer_1", "candidate", 1)]
    assert normalize_entries([(1, {"answer": "Ada", "inverted": None})], source="x") == [(1, {"answer": "Ada"})]
    assert "inverted" in given[0][1], "what was given is left as it was"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"answer": "Ada", "inverted": ["Bob"], "answer_0": "Eve"},
            "`inverted` and `answer_0` mean the same; give one",
        ),
        ({"answer": "Ada", "inverted": {"a": 1}}, "`inverted` is .*, not a list; write"),
    ],
)
def test_two_spellings_of_one_thing_are_reported(entry, message):
    with pytest.raises(UserError, match=f"^--facts=f, entry 3: {message}"):
        normalize_entries([(3, entry)], source="--facts=f")
