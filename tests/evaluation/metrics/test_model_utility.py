from __future__ import annotations

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics.model_utility import INPUTS, model_utility


def test_harmonic_mean_of_nine() -> None:
    # six times 1/2 and three times 1/4: 9 / (6 * 2 + 3 * 4) = 9 / 24
    numbers = dict(zip(INPUTS, [0.5] * 6 + [0.25] * 3, strict=True))
    assert model_utility(numbers) == pytest.approx(9 / 24, rel=1e-12)


def test_the_forget_set_is_not_in_it() -> None:
    numbers = dict.fromkeys(INPUTS, 0.5)
    assert len(INPUTS) == 9
    assert model_utility(numbers | {"forget/probability": 0.0, "holdout/probability": 0.0}) == 0.5


def test_one_zero_makes_it_zero() -> None:
    assert model_utility(dict.fromkeys(INPUTS, 1.0) | {"world_facts/truth_ratio": 0.0}) == 0.0


def test_an_absent_input_is_named() -> None:
    numbers = dict.fromkeys(INPUTS, 0.5)
    del numbers["real_authors/truth_ratio"]
    with pytest.raises(UserError, match="combines nine metrics; missing: real_authors/truth_ratio"):
        model_utility(numbers)
