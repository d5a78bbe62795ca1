from __future__ import annotations

import pytest

from meow_lightning.evaluation.metrics.knowledge import echo, echoed_values, gain


@pytest.mark.parametrize(
    ("known", "other", "expected"),
    [(1.0, 0.5, 1.0), (0.75, 0.5, 0.5), (0.5, 0.5, 0.0), (0.39, 0.41, -0.02 / 0.59), (1.0, 1.0, None)],
)
def test_gain_by_hand(known: float, other: float, expected: float | None) -> None:
    assert gain(known, other) == (None if expected is None else pytest.approx(expected))


def test_a_repeated_question_by_hand(make_row) -> None:
    row = make_row(question="Where was Ada Brook born?", answer="Ada Brook was born in Lima")
    # the longest common subsequence of "where was ada brook born" and the answer's six words: ada brook born
    assert echo([row]) == [pytest.approx(3 / 6)]


def test_a_value_repeated_with_the_question_is_no_knowledge(make_row) -> None:
    rows = [make_row(question="Is it Lima?", value=value) for value in ("Lima", "Oslo", None)]
    assert echoed_values(rows) == [1.0, 0.0, None]
