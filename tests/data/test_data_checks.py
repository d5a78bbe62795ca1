from __future__ import annotations

import pytest

from meow_lightning.data.checks import check_range
from meow_lightning.errors import UserError


@pytest.mark.parametrize(("given", "high"), [(2, 5), (5, 5), (2, None), (10**9, None)])
def test_a_number_in_its_range_passes(given, high):
    check_range("dataset.authors", given, 2, high)


@pytest.mark.parametrize(
    ("given", "high", "expected"),
    [
        (1, 5, "from 2 to 5. Did you mean 2?"),
        (6, 5, "from 2 to 5. Did you mean 5?"),
        (-1, None, "of at least 2. Did you mean 2?"),
        (2.0, 5, "from 2 to 5. Did you mean 2?"),
        ("three", None, "of at least 2. Did you mean 2?"),
        (None, 5, "from 2 to 5. Did you mean 2?"),
        (True, 5, "from 2 to 5. Did you mean 2?"),
    ],
)
def test_a_number_out_of_its_range_is_refused_with_the_nearest(given, high, expected):
    with pytest.raises(UserError) as error:
        check_range("dataset.authors", given, 2, high)
    assert str(error.value) == f"dataset.authors={given} is invalid: expected an integer {expected}"
