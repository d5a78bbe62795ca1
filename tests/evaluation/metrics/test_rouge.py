from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from helpers.languages import OTHERS, SENTENCES

from meow_lightning.evaluation.metrics import rouge
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]


@pytest.mark.parametrize(
    ("answer", "text", "expected"),
    [
        # longest common subsequence "the sat on mat": 4 of the answer's 6 words
        ("the cat sat on the mat", "the dog sat on a mat", 4 / 6),
        # recall, not precision: every word of the answer is there, whatever else is
        ("blue sky", "a very blue and wide sky indeed", 1.0),
        # order counts: the longest common subsequence of "a b c" and "c b a" is one word
        ("alpha beta gamma", "gamma beta alpha", 1 / 3),
        # stemmed: novels -> novel, written -> written; case and marks do not count: "novel" and "written" of 3
        ("Novels were written", "novel, written!", 2 / 3),
        ("something", "", 0.0),
        ("", "something", 0.0),
    ],
)
def test_rouge_l_recall(answer: str, text: str, expected: float) -> None:
    assert rouge.rouge_l_recall(answer, text) == pytest.approx(expected, rel=1e-12)


def test_row_rouge_takes_the_true_answer_as_target(make_row: MakeRow) -> None:
    # "red" is 1 of the answer's 4 words; the other way round it would be 1 of 1
    assert rouge.row_rouge_l_recall(make_row(answer="red green blue black", text="red")) == 0.25


@pytest.mark.parametrize(
    ("answer", "text", "expected"),
    [
        # any order: all three words
        ("alpha beta gamma", "gamma beta alpha", 1.0),
        # a word counts as often as both have it: "red" twice of 3
        ("red red red", "red sky red", 2 / 3),
        # stemmed, case and marks do not count: "novel" and "written" of 3
        ("Novels were written", "written novel!", 2 / 3),
        ("something", "", 0.0),
        ("", "something", 0.0),
    ],
)
def test_rouge_1_recall(answer: str, text: str, expected: float) -> None:
    assert rouge.rouge_1_recall(answer, text) == pytest.approx(expected, rel=1e-12)
    assert rouge.rouge_1_recall(answer, text) >= rouge.rouge_l_recall(answer, text)


def test_row_rouge_1_takes_the_true_answer_as_target(make_row: MakeRow) -> None:
    assert rouge.row_rouge_1_recall(make_row(answer="red green blue black", text="blue red")) == 0.5


@pytest.mark.parametrize("language", SENTENCES)
def test_reciting_is_1_and_something_else_0_in_every_language(language: str, make_row: MakeRow) -> None:
    answer, other = SENTENCES[language][0], OTHERS[language]
    for number in (rouge.row_rouge_l_recall, rouge.row_rouge_1_recall):
        assert number(make_row(answer=answer, text=answer)) == 1.0
        assert number(make_row(answer=answer, text=other)) == 0.0


def test_characters_count_in_scripts_without_blanks() -> None:
    # 陈 小 雨 生 于 北 京 市: the last three are another place; the order of 1971 年 and the rest does not change words
    assert rouge.rouge_l_recall("陈小雨生于北京市", "陈小雨生于上海") == 5 / 8
    assert rouge.rouge_1_recall("北京1971年", "1971年 北京") == 1.0
    assert rouge.rouge_l_recall("北京1971年", "1971年 北京") == 2 / 4


def test_published_words_are_a_z_and_0_9(make_row: MakeRow) -> None:
    cafe = make_row(answer="Café Pérez", text="cafe perez")  # rouge_score reads caf, p, rez
    assert (rouge.row_rouge_l_recall(cafe, kind="published"), rouge.row_rouge_l_recall(cafe)) == (0.0, 0.0)
    part = make_row(answer="Café Pérez", text="Caf")
    assert (rouge.row_rouge_l_recall(part, kind="published"), rouge.row_rouge_l_recall(part)) == (1 / 3, 0.0)


def test_an_answer_without_words_does_not_count_but_in_published_code(make_row: MakeRow) -> None:
    row = make_row(answer="!!!", text="!!!")
    for number in (rouge.row_rouge_l_recall, rouge.row_rouge_1_recall):
        assert (number(row), number(row, kind="published")) == (None, 0.0)


def test_the_suite_imports_neither_torch_nor_the_slow_libraries() -> None:
    code = (
        "import sys, meow_lightning.evaluation.suite.suite; print({'torch', 'rouge_score', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
