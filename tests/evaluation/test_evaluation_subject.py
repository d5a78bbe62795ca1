"""Subjects: their text, and what belongs to one attack."""

from __future__ import annotations

import pytest

from meow_lightning.evaluation.subject import Subject, under_condition
from meow_lightning.types import ROLES


def test_a_subject_is_written_and_read_back() -> None:
    for subject in (*map(Subject, ROLES), Subject("unlearned", "quantise_int4")):
        assert Subject.parse(str(subject)) == subject
    assert str(Subject("unlearned")) == "unlearned"
    assert str(Subject("retain", "relearn")) == "retain@relearn"
    with pytest.raises(ValueError, match="base"):
        Subject.parse("base@relearn")


def test_numbers_are_selected_by_condition() -> None:
    numbers = {"target": 1, "unlearned": 2, "unlearned@relearn": 3, "retain@relearn": 4, "target@int4": 5}
    assert under_condition(numbers, "") == {"target": 1, "unlearned": 2}
    assert under_condition(numbers, "relearn") == {"unlearned": 3, "retain": 4}
