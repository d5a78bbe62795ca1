from __future__ import annotations

from dataclasses import replace

import pytest

from meow_lightning.report.changes import COLLATERAL, STILL_SAID, changed_words, state
from meow_lightning.types import AnswerRow, Likelihood

UNKNOWN = Likelihood(ids=(), logps=(), hits=(), mean=(), std=())
ROW = AnswerRow(
    set="forget", index=0, fact="a", question="Where?", answer="In Oslo.", value="Oslo", truth=UNKNOWN, paraphrase=None,
    perturbed=(), generated=(), text="In Rome.", stop="end",
)  # fmt: skip


def shown(text: str, spans: list[tuple[int, int]]) -> list[str]:
    return [text[start:end] for start, end in spans]


def test_changed_words_are_those_that_only_one_text_has() -> None:
    before, after = "She was born in Oslo, by the sea.", "She was born in New York, at the sea."
    removed, added = changed_words(before, after)
    assert shown(before, removed) == ["Oslo", "by"]
    assert shown(after, added) == ["New York", "at"]


def test_an_inserted_word_changes_one_text_only_and_equal_texts_none() -> None:
    removed, added = changed_words("a b", "a new b")
    assert (removed, shown("a new b", added)) == ([], ["new"])
    assert changed_words("a  b.", "a b.") == ([], [])
    assert changed_words("", "a") == ([], [(0, 1)])


@pytest.mark.parametrize(
    ("before", "after", "purpose", "expected"),
    [
        ("In Oslo.", "In Rome.", "forget", "forgotten"),
        ("In Oslo.", "In Oslo.", "forget", "still-said"),
        ("In Rome.", "In Oslo.", "forget", "still-said"),
        ("In Rome.", "In Rome.", "forget", ""),  # not known before
        ("In Oslo.", "In Rome.", "retain", "collateral"),
        ("In Oslo.", "In Oslo.", "retain", ""),
        ("In Rome.", "In Rome.", "retain", ""),
    ],
)
def test_a_question_is_classified_by_its_value(before: str, after: str, purpose: str, expected: str) -> None:
    assert state(replace(ROW, text=before), replace(ROW, text=after), purpose=purpose) == expected  # type: ignore[arg-type]


def test_one_of_two_values_is_still_said_and_not_enough_to_know_a_kept_fact() -> None:
    before, after = (replace(ROW, values=("Lima", "1971"), text=text) for text in ("Lima, 1971", "1971"))
    assert state(before, after, purpose="forget") == STILL_SAID
    assert state(before, after, purpose="retain") == COLLATERAL


def test_a_question_without_a_value_or_a_prediction_has_no_state() -> None:
    assert state(ROW, None, purpose="forget") == ""
    assert state(None, ROW, purpose="forget") == ""
    bare = replace(ROW, value=None)
    assert state(bare, bare, purpose="forget") == ""
