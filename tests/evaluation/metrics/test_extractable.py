from __future__ import annotations

from collections.abc import Callable

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metrics.extractable import Extractable, extractable
from meow_lightning.evaluation.sets import set_info
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]


@pytest.mark.parametrize(
    ("hits", "expected"), [([1, 1, 1], True), ([1, 1, 0], True), ([1, 0, 1], False), ([0, 1, 1], False), ([1, 0], True)]
)
def test_every_token_but_the_end_has_to_be_the_first_choice(hits: list[int], expected: bool) -> None:
    assert extractable(hits) is expected


def test_an_answer_without_tokens_is_refused() -> None:
    with pytest.raises(UserError, match="at least 1 token besides the end token"):
        extractable([1])


def test_the_share_of_a_set_is_measured_and_lower_is_better_where_it_is_forgotten(make_row: MakeRow) -> None:
    rows = [
        make_row(name, index, truth=[-1.0, -1.0, -1.0], hits=hits)
        for name in ("forget", "retain") for index, hits in enumerate(([1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 0, 0]))
    ]  # fmt: skip
    results = evaluate({"target": rows}, {}, truth_ratio_mean="geometric")
    assert results.values["target"]["forget/extractable"] == 0.5
    directions = {each.name: each.direction for each in results.definitions}
    assert (directions["forget/extractable"], directions["retain/extractable"]) == ("lower", "higher")
    metric = Extractable().torchmetric(RowContext(info=set_info("forget")))
    metric.update(rows[:4])
    assert metric.compute().item() == 0.5
