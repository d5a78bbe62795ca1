"""TF-IDF on texts small enough to work out by hand."""

from __future__ import annotations

import math

import pytest

from meow_lightning.data.tfidf import nearest, tfidf


def test_rows_are_counts_by_inverse_document_frequency_of_length_one() -> None:
    rows, words = tfidf(["a b b", "a c", "a"])
    assert {word: weight for word, (_, weight) in words.items()} == pytest.approx(
        {"a": 0.0, "b": math.log(3), "c": math.log(3)}
    )
    assert rows.toarray()[:, words["b"][0]].tolist() == pytest.approx([1.0, 0.0, 0.0])


def test_the_nearest_come_first_and_what_shares_no_weighty_word_is_no_neighbour() -> None:
    texts = ("the red cat", "the red dog", "the blue dog", "the sea")
    assert nearest("the red dog", texts) == [1, 0, 2]
    assert nearest("a blue cat", texts)[:2] == [0, 2]  # each shares one word that one text has
    assert nearest("a bird", texts) == []
