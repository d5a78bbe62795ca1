from __future__ import annotations

from collections.abc import Callable

import pytest

from meow_lightning.data.words import words_and_marks
from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metrics.fluency import (
    SEVERAL,
    Ended,
    Fluency,
    Repetition,
    known_pairs,
    pairs,
    repetition,
    row_fluency,
)
from meow_lightning.evaluation.sets import set_info
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]


def test_words_and_pairs() -> None:
    assert words_and_marks("He's  BORN, ja.") == ["he", "'", "s", "born", ",", "ja", "."]
    assert pairs("Born here") == [("", "born"), ("born", "here"), ("here", "")]
    assert pairs(" \n") == []


def test_the_owner_of_a_pair(make_row: MakeRow) -> None:
    rows = [
        make_row("forget", 0, question="a b", answer="c"),
        make_row("retain", 0, question="a d", answer="c d"),
    ]
    known = known_pairs(rows)
    assert known["", "a"] == known["", "c"] == SEVERAL
    assert known["a", "b"] == known["c", ""] == ("forget", 0)
    assert known["c", "d"] == ("retain", 0)
    # "a d" and "c d" both end in d, in one row
    assert known["d", ""] == ("retain", 0)


@pytest.fixture
def fluency_of(make_row: MakeRow) -> Callable[[str], float]:
    """Fluency of one text beside two other rows."""

    def score(text: str) -> float:
        row = make_row("forget", 0, question="who is x", answer="x is the secret king", text=text)
        others = [
            make_row("forget", 1, question="who is y", answer="y is the old painter"),
            make_row("retain", 0, question="who is z", answer="z is the new king"),
        ]
        return row_fluency(row, known=known_pairs([row, *others]))

    return score


def test_fluency_by_hand(fluency_of: Callable[[str], float]) -> None:
    # [y] [y is] [is the] [the new] [new king] [king]: all held by other rows
    assert fluency_of("y is the new king") == 1.0
    # [x] [x is] are held by this row alone; [is the] [the old] [old painter] [painter] by others: 4 of 6
    assert fluency_of("x is the old painter") == pytest.approx(4 / 6, rel=1e-12)
    # the true answer gets nothing for being true: [is the] and [king] of 6
    assert fluency_of("x is the secret king") == pytest.approx(2 / 6, rel=1e-12)


def test_gibberish_by_hand(fluency_of: Callable[[str], float]) -> None:
    assert fluency_of("qwx zzrt blorp") == 0.0
    # known words in no known order: of [painter] [painter the] [the is] [is old] [old y] [y] one ends a question
    assert fluency_of("painter the is old y") == pytest.approx(1 / 6, rel=1e-12)
    # [is] [is the] [the is] [is the] [the is] [is the] [the]: of 7 pairs one is known, counted once
    assert fluency_of("is the is the is the") == pytest.approx(1 / 7, rel=1e-12)
    assert fluency_of("") == 0.0
    assert fluency_of(" \n ") == 0.0


def test_scripts_without_blanks_are_read_by_character() -> None:
    assert pairs("住北。") == [("", "住"), ("住", "北"), ("北", "。"), ("。", "")]
    assert repetition("好好好好好好", n=4) == pytest.approx(2 / 3, rel=1e-12)
    assert repetition("ดีดีดีดีดี", n=4) == pytest.approx(1 / 2, rel=1e-12)


def test_repetition_by_hand() -> None:
    # pairs of words: ab bc cd, all distinct; then ab ba ab ba: 2 of 4 are new
    assert repetition("a b c d", n=2) == 0.0
    assert repetition("a b a b a", n=2) == 0.5
    # the same word n times has n - 3 runs of four, all alike: 1 - 1/7
    assert repetition("the " * 10, n=4) == pytest.approx(6 / 7, rel=1e-12)
    assert repetition("a b c", n=4) == repetition("", n=4) == 0.0
    with pytest.raises(UserError, match=r"^n=0 is invalid"):
        repetition("a", n=0)


def test_a_row_counts_runs_of_four(make_row: MakeRow) -> None:
    # abcd bcda cdab dabc abcd: 4 of 5 are new
    row = make_row(text="a b c d a b c d")
    assert Repetition().value(row, RowContext(info=set_info("forget"))) == pytest.approx(1 / 5, rel=1e-12)


def test_words_of_the_greedy_answers_in_a_training_loop(make_row: MakeRow) -> None:
    rows = [
        make_row(index=0, question="q", answer="a b", text="c d", stop="length"),
        make_row(index=1, question="q", answer="c d", text="b b b b b", generated=(), stop="length"),
    ]
    context = RowContext(info=set_info("forget"), model_rows=rows)
    # the first says [c] [c d] [d], all of the second row's answer; the second [b] [b b] x 4 [b], of which the row
    # before holds [b] at the end only: 1 and 1/6. Runs of four: none, and two that are alike. The second does not say
    # how it ended, as what a log is read as.
    for metric, expected, count in ((Fluency(), 7 / 12, 2), (Repetition(), 0.25, 2), (Ended(), 0.0, 1)):
        mean = metric.torchmetric(context)
        mean.update(rows)
        assert mean.compute().item() == pytest.approx(expected, rel=1e-12)
        assert mean.count.item() == count


def test_ended(make_row: MakeRow) -> None:
    context = RowContext(info=set_info("forget"))
    assert Ended().value(make_row(stop="end", generated=(), text=""), context) == 1.0
    assert Ended().value(make_row(stop="length"), context) == 0.0
