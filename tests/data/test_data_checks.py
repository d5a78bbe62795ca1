from __future__ import annotations

import pytest

from meow_lightning.data.checks import check_choice, check_range
from meow_lightning.errors import UserError

SPLITS = ("forget01", "forget05", "forget10")


@pytest.mark.parametrize("split", SPLITS)
def test_a_choice_among_those_allowed_passes(split):
    check_choice("dataset.split", split, iter(SPLITS))


@pytest.mark.parametrize(
    ("given", "nearest"), [("forget11", "forget10"), ("forget5", "forget05"), ("forget1O", "forget10")]
)
def test_another_choice_is_told_with_the_nearest(given, nearest):
    with pytest.raises(UserError) as error:
        check_choice("dataset.split", given, SPLITS)
    assert str(error.value) == (
        f"dataset.split={given} is not one of forget01, forget05, forget10; the nearest is {nearest}: "
        f"set dataset.split={nearest}"
    )


@pytest.mark.parametrize("given", ["", "zzz", None, 5])
def test_a_choice_near_to_none_is_told_all_the_same(given):
    with pytest.raises(UserError, match=rf"^dataset.split={given} is not one of forget01, .*; the nearest is forget"):
        check_choice("dataset.split", given, SPLITS)


@pytest.mark.parametrize(("given", "high"), [(2, 5), (5, 5), (2, None), (10**9, None)])
def test_a_number_in_its_range_passes(given, high):
    check_range("dataset.authors", given, 2, high)


@pytest.mark.parametrize(
    ("given", "high", "said"),
    [
        (1, 5, "from 2 to 5; the nearest is 2: set dataset.authors=2"),
        (6, 5, "from 2 to 5; the nearest is 5: set dataset.authors=5"),
        (-1, None, "from 2; the nearest is 2: set dataset.authors=2"),
        (2.0, 5, "from 2 to 5; set for example dataset.authors=2"),
        ("three", None, "from 2; set for example dataset.authors=2"),
        (None, 5, "from 2 to 5; set for example dataset.authors=2"),
    ],
)
def test_a_number_out_of_its_range_is_told_with_the_nearest(given, high, said):
    with pytest.raises(UserError) as error:
        check_range("dataset.authors", given, 2, high)
    assert str(error.value) == f"dataset.authors={given} is not a whole number {said}"
