"""Passages of held-out text: what of a file is one, and which of them are taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meow_lightning.evaluation.passages import detokenized, passages, spread

LINES = [
    "", " = Robert Boulter = ", " He left . He came back to <unk> in 1960 . He wrote @,@ then . He slept . ",
    " <unk> was it . ", " One sentence only .",
]  # fmt: skip


def test_wikitext_gives_runs_of_sentences_without_an_unknown_word() -> None:
    found = ["He left .", "He wrote @,@ then . He slept .", "One sentence only ."]
    assert list(passages(LINES, form="wikitext")) == found


def test_plain_text_gives_every_line_that_is_not_blank() -> None:
    assert list(passages(["a . b", " ", " = c"], form="plain")) == ["a . b", "= c"]


@pytest.mark.parametrize(
    ("tokenized", "plain"),
    [
        ("It took 3 @,@ 000 days , 2 @.@ 5 a man .", "It took 3,000 days, 2.5 a man."),
        ("A well @-@ known ( and \" old \" ) town : Lima .", 'A well-known (and "old") town: Lima.'),
    ],
)  # fmt: skip
def test_the_marks_of_the_tokenization_are_removed(tokenized: str, plain: str) -> None:
    assert detokenized(tokenized) == plain


def test_a_limit_takes_passages_from_the_whole_file() -> None:
    assert spread("abcdefghij", 4) == ["a", "c", "f", "h"]  # floor(10 i / 4) = 0, 2, 5, 7
    assert spread("abc", None) == spread("abc", 9) == ["a", "b", "c"]
    assert spread("", 3) == []


@given(count=st.integers(1, 300), limit=st.integers(1, 300))
def test_spread_takes_as_many_as_wanted_in_order_and_none_twice(count: int, limit: int) -> None:
    taken = spread(range(count), limit)
    assert len(taken) == min(count, limit)
    assert taken == sorted(set(taken))
    assert taken[0] == 0
