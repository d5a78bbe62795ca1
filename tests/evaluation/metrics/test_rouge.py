from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

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


def test_the_suite_imports_neither_torch_nor_the_slow_libraries() -> None:
    code = "import sys, meow_lightning.evaluation.suite; print({'torch', 'rouge_score', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
