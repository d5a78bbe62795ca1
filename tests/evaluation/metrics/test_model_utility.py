from __future__ import annotations

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics.model_utility import model_utility, utility_inputs
from meow_lightning.evaluation.sets import BENCHMARK
from meow_lightning.types import SetInfo


def test_harmonic_mean_of_nine() -> None:
    # six times 1/2 and three times 1/4: 9 / (6 * 2 + 3 * 4) = 9 / 24
    assert model_utility([0.5] * 6 + [0.25] * 3) == pytest.approx(9 / 24, rel=1e-12)


def test_the_inputs_are_three_metrics_of_every_set_to_be_kept() -> None:
    nine = utility_inputs(BENCHMARK)
    assert len(nine) == 9
    assert {name.split("/")[0] for name in nine} == {"retain", "real_authors", "world_facts"}
    other = (SetInfo("books", "forget", "free"), SetInfo("news", "retain", "free"), SetInfo("quiz", "utility", "free"))
    assert utility_inputs(other) == (
        "news/probability", "news/rouge_l_recall", "news/truth_ratio",
        "quiz/probability", "quiz/rouge_l_recall", "quiz/truth_ratio",
    )  # fmt: skip


def test_one_zero_makes_it_zero() -> None:
    assert model_utility([1.0] * 8 + [0.0]) == 0.0


def test_no_input_is_refused() -> None:
    with pytest.raises(UserError, match="expects at least 1 metric, given 0"):
        model_utility([])
