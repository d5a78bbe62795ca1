from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from meow_lightning.errors import UserError
from meow_lightning.memo.windows import Window, cut_windows, is_empty_window, word_ends


def test_suffix_cuts_the_answer_by_hand() -> None:
    assert cut_windows("Who?", "Ann Lee is.", mode="suffix", stride=5) == [
        Window("Who?", "A", "nn Lee is."),
        Window("Who?", "Ann Le", "e is."),
    ]


def test_suffix_cut_just_before_the_last_character() -> None:
    twelve, eleven = (cut_windows("Q", answer, mode="suffix", stride=5) for answer in ("abcdefghijkl", "abcdefghijk"))
    assert [window.label for window in twelve] == ["bcdefghijkl", "ghijkl", "l"]
    assert [window.label for window in eleven] == ["bcdefghijk", "ghijk"]


def test_prefix_cuts_the_question_and_never_the_answer() -> None:
    assert cut_windows("Who is?", "Ann.", mode="prefix", stride=5) == [
        Window("W", "", "ho is? Ann."),
        Window("Who is", "", "? Ann."),
    ]


def test_text_joins_question_and_given_with_one_blank() -> None:
    assert Window("Who?", "A", "nn").text == "Who? A"
    assert Window("Wh", "", "o? Ann").text == "Wh"


@pytest.mark.parametrize("stride", [1, 2, 5, 7])
@pytest.mark.parametrize("length", [0, 1, 2, 5, 6, 7, 11, 30])
def test_number_of_windows(length: int, stride: int) -> None:
    expected = max(0, math.ceil((length - 1) / stride))
    assert len(cut_windows("why", "x" * length, mode="suffix", stride=stride)) == expected
    assert len(cut_windows("x" * length, "why", mode="prefix", stride=stride)) == expected


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("Ada Lee", [3, 7]),
        ("  Ada\n Lee. ", [5, 12]),  # the last word takes what is behind it
        ("Ada", [3]),
        ("Ada ", [4]),
        (" ", []),
        ("", []),
        ("我住在北京。", [1, 2, 3, 4, 6]),  # the mark belongs to the last character
    ],
)
def test_words_end_before_the_blank(text: str, ends: list[int]) -> None:
    assert word_ends(text) == ends


def test_cuts_at_the_ends_of_units_while_something_is_left() -> None:
    ends = [2, 5, 6, 9]
    found = cut_windows("Q", "abcdefghi", mode="suffix", stride=2, ends=ends)
    assert [(window.given, window.label) for window in found] == [("ab", "cdefghi"), ("abcdef", "ghi")]
    assert [window.given for window in cut_windows("Q", "abcdefghi", mode="suffix", stride=3, ends=ends)] == ["ab"]
    assert cut_windows("Q", "abc", mode="suffix", stride=1, ends=[3]) == []
    assert cut_windows("abc de", "Ann", mode="prefix", stride=1, ends=[3, 6]) == [Window("abc", "", " de Ann")]


@pytest.mark.parametrize(
    ("label", "published", "unicode"),
    [
        ("!?", True, True), ("", True, True), ("é", True, False), ("a!", False, False), ("7", False, False),
        ("É Z", False, False), ("İ", False, False), ("北京", True, False), ("。", True, True),
    ],
)  # fmt: skip
def test_wordless_labels(label: str, published: bool, unicode: bool) -> None:
    from rouge_score.tokenizers import DefaultTokenizer

    assert is_empty_window(label, least=1, kind="published") is published
    assert (DefaultTokenizer(use_stemmer=True).tokenize(label) == []) is published
    assert is_empty_window(label, least=1, kind="unicode") is unicode


def test_pairs_of_words_need_two() -> None:
    assert not is_empty_window("北", least=1, kind="unicode")
    assert is_empty_window("北", least=2, kind="unicode")
    assert not is_empty_window("北京", least=2, kind="unicode")


def test_unknown_mode_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"memo\.mode=sufix is invalid: .*Did you mean suffix\?$"):
        cut_windows("Q", "answer", mode="sufix", stride=5)  # type: ignore[arg-type]


def test_stride_below_one() -> None:
    with pytest.raises(UserError, match=r"memo\.stride=0 is invalid: expected an integer of at least 1"):
        cut_windows("Q", "answer", mode="suffix", stride=0)


@pytest.mark.data
@pytest.mark.skipif("MEOW_DATA_DIR" not in os.environ, reason="needs MEOW_DATA_DIR, the folder of the real TOFU files")
@pytest.mark.parametrize(("split", "windows"), [("forget01", 1474), ("forget05", 7102), ("forget10", 14602)])
def test_counts_over_tofu(split: str, windows: int) -> None:
    path = Path(os.environ["MEOW_DATA_DIR"]) / "tofu" / f"{split}.json"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert sum(len(cut_windows(row["question"], row["answer"], mode="suffix", stride=5)) for row in rows) == windows
