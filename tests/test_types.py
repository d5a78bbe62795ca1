"""Records shared by all packages."""

from __future__ import annotations

import pytest

from meow_lightning.types import ROLES, Subject


def test_a_subject_is_written_and_read_back() -> None:
    for subject in (*map(Subject, ROLES), Subject("unlearned", "quantise_int4")):
        assert Subject.parse(str(subject)) == subject
    assert str(Subject("unlearned")) == "unlearned"
    assert str(Subject("retain", "relearn")) == "retain@relearn"
    with pytest.raises(ValueError, match="base"):
        Subject.parse("base@relearn")
