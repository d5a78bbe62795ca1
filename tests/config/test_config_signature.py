from __future__ import annotations

from typing import Annotated, Any

import pytest

from meow_lightning.config.ranges import Count, Range
from meow_lightning.config.signature import argument_mistakes, checked_ranges
from meow_lightning.errors import UserError


@checked_ranges("method")
class Own:
    """A component with ranges beside its arguments."""

    def __init__(self, *, share: Annotated[float, Range(0, 1)], rows: Count | None = None, other: Any = None) -> None:
        self.share, self.rows, self.other = share, rows, other


def kinds(given: dict[str, Any], **options: Any) -> dict[str, str]:
    """The kind of the mistake in each argument."""
    found = argument_mistakes(Own, "own.Own", given, **{"provided": (), **options})
    return {mistake.path[0]: mistake.kind for mistake in found}


def test_a_component_built_by_hand_is_held_to_its_ranges():
    assert Own(share=1, rows=None, other="x").share == 1
    for arguments, text in (
        ({"share": 1.5}, r"^method.share=1.5 is invalid: expected a number from 0 to 1$"),
        ({"share": float("nan")}, r"^method.share=nan is invalid: expected a number from 0 to 1$"),
        ({"share": 0.5, "rows": 0}, r"^method.rows=0 is invalid: expected a number from 1 to 1,000,000,000$"),
        ({"share": 0.5, "rows": 2.5}, r"^method.rows=2.5 is invalid: expected an integer or null$"),
    ):
        with pytest.raises(UserError, match=text):
            Own(**arguments)


def test_missing_and_unknown_arguments_are_found_by_the_signature():
    assert kinds({"share": 0.5}) == {}
    assert kinds({"sharee": 0.5}) == {"sharee": "unknown_option", "share": "missing_option"}
    assert kinds({}, provided=("share",)) == {}
    assert kinds({"share": "x", "rows": 0}) == {"share": "invalid", "rows": "invalid"}


def test_keyword_arguments_of_any_name_are_allowed_where_the_target_takes_them():
    def target(*, share: float, **others: Any) -> None: ...

    assert list(argument_mistakes(target, "own.target", {"share": 1.0, "mine": 3}, provided=())) == []
