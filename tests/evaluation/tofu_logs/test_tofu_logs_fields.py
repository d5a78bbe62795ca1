"""Values of logs are checked before any number is computed."""

from __future__ import annotations

import math

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.tofu_logs.fields import (
    MAX_SHOWN,
    check_no_gaps,
    check_row_numbers,
    likelihood,
    listed,
    shown,
)


def test_a_mean_loss_is_one_token() -> None:
    assert likelihood(2, "avg_loss", "row 0").logps == (-2.0,)
    assert likelihood(-0.0005, "avg_loss", "row 0").logps == (0.0005,)  # rounding of a loss of 0
    for invalid in ("2", True, None, math.nan, math.inf, -0.5, 2e6):
        with pytest.raises(UserError, match="row 0: avg_loss="):
            likelihood(invalid, "avg_loss", "row 0")


def test_rows_are_numbered_from_0_without_gaps() -> None:
    check_row_numbers({"1", "0"}, "part")
    check_no_gaps({"1", "0"}, "part")
    for numbers, reason in (({"01"}, "row number '01'"), ({"-1"}, "row number '-1'"), ((), "has no rows")):
        with pytest.raises(UserError, match=reason):
            check_row_numbers(numbers, "part")
    with pytest.raises(UserError, match="row 1 is missing from 2 rows up to 2"):
        check_no_gaps({"0", "2"}, "part")


def test_what_is_shown_fits_on_a_line() -> None:
    assert shown([1, "a"]) == "[1, 'a']"
    assert len(shown("x" * 1000)) == MAX_SHOWN + 1
    assert listed({}) == "nothing"
    assert listed(dict.fromkeys("abcdefgh")) == "'a', 'b', 'c', 'd', 'e', 'f', and 2 more"
