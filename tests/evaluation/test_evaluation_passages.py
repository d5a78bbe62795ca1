"""Passages of held-out text: what of a file is one, and which of them are taken."""

from __future__ import annotations

import pytest

from meow_lightning.evaluation.passages import detokenized, passages

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
