"""Choice accuracy on likelihoods worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metrics.choice_accuracy import ChoiceAccuracy, is_preferred
from meow_lightning.evaluation.sets import set_info
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]


@pytest.mark.parametrize(
    ("correct", "wrong", "expected"),
    [(-1.0, [-2.0, -1.5], True), (-1.0, [-2.0, -0.5], False), (-1.0, [-1.0, -2.0], False)],
)
def test_the_correct_answer_must_beat_every_wrong_one(correct: float, wrong: list[float], expected: bool) -> None:
    assert is_preferred(correct, wrong) is expected


def test_a_row_compares_means_per_token_and_the_paraphrase_where_there_is_one(make_row: MakeRow) -> None:
    context = RowContext(info=set_info("forget"))
    wrong = [[-1.2, -1.2], [-3.0]]
    # means: truth -1.0 against -1.2 and -3.0
    assert ChoiceAccuracy().value(make_row(truth=[-0.5, -1.5], paraphrase=None, perturbed=wrong), context) == 1.0
    # the paraphrase's mean of -1.5 is below -1.2
    assert ChoiceAccuracy().value(make_row(truth=[-0.5, -1.5], paraphrase=[-1.5], perturbed=wrong), context) == 0.0
