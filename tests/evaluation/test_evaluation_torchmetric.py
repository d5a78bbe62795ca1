from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
from torchmetrics.utilities import dim_zero_sum

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metrics.forget_quality import ForgetQuality, forget_quality
from meow_lightning.evaluation.metrics.probability import Probability
from meow_lightning.evaluation.metrics.reference_rouge import ParaphraseRouge
from meow_lightning.evaluation.metrics.rouge import RougeLRecall
from meow_lightning.evaluation.sets import set_info
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]
FORGET = RowContext(info=set_info("forget"))


def test_uneven_processes_give_the_mean_of_all_rows(make_row: MakeRow) -> None:
    # 1/2 and 1/4 and 1/8 over three rows: 7/24; a mean of the two processes' means would be (3/8 + 1/8) / 2 = 1/4
    rows = [make_row(index=i, truth=[math.log(p)]) for i, p in enumerate((1 / 2, 1 / 4, 1 / 8))]
    first, second = Probability().torchmetric(FORGET), Probability().torchmetric(FORGET)
    first.update(rows[:2])
    second.update(rows[2:])
    second.merge_state(first)
    assert second.compute().item() == pytest.approx(7 / 24, rel=1e-12)
    assert second.count.item() == 3


def test_every_state_is_summed_over_processes() -> None:
    # what torchmetrics does with the states that it gathers from the other processes
    assert Probability().torchmetric(FORGET)._reductions == {"total": dim_zero_sum, "count": dim_zero_sum}


def test_a_mean_starts_anew_and_is_not_a_number_without_rows(make_row: MakeRow) -> None:
    metric = RougeLRecall().torchmetric(FORGET)
    metric.update([make_row(answer="red blue", text="red"), make_row(answer="red", text="red")])
    assert metric.compute().item() == 0.75  # the mean of 1/2 and 1
    metric.reset()
    assert math.isnan(metric.compute().item())


def _forget_rows(make_row: MakeRow, ratios: Sequence[float]) -> list[AnswerRow]:
    return [make_row(index=i, truth=[-1.0], perturbed=[[-1.0 + ratio]]) for i, ratio in enumerate(ratios)]


def test_forget_quality_over_two_processes(make_row: MakeRow) -> None:
    ratios, retain_ratios = [-3.0, -2.0, -1.0], [-1.5, -0.5, -0.25]
    rows, retain = _forget_rows(make_row, ratios), _forget_rows(make_row, retain_ratios)
    first, second = (ForgetQuality().torchmetric(retain=retain, mean="geometric") for _ in range(2))
    # the way a distributed sampler deals rows out
    first.update([rows[0], rows[2]])
    second.update([rows[1]])
    second.merge_state(first)
    numbers = {name: value.item() for name, value in second.compute().items()}
    expected = forget_quality(ratios, retain_ratios)
    assert numbers == {"p": expected.p, "log10_p": expected.log10_p, "distance": expected.distance, "rows": 3.0}


def test_forget_quality_notices_padding_and_gaps(make_row: MakeRow) -> None:
    rows = _forget_rows(make_row, [-3.0, -2.0])
    metric = ForgetQuality().torchmetric(retain=rows, mean="geometric")
    metric.update([*rows, rows[0]])
    with pytest.raises(UserError, match="3 rows of 2 questions were added, the retain model has 2 questions"):
        metric.compute()
    metric.reset()
    metric.update(rows[:1])
    with pytest.raises(UserError, match="1 rows of 1 questions were added"):
        metric.compute()


def test_forget_quality_refuses_other_questions(make_row: MakeRow) -> None:
    metric = ForgetQuality().torchmetric(retain=_forget_rows(make_row, [-3.0, -2.0]), mean="geometric")
    with pytest.raises(
        UserError, match="the evaluated model has fact 'forget-1', the retain model has fact 'forget-1'"
    ):
        metric.update([make_row(index=1, question="Something else?", perturbed=[[-1.0]])])


def test_rows_whose_texts_are_not_at_hand_are_left_out(make_row: MakeRow) -> None:
    metric = ParaphraseRouge().torchmetric(FORGET)
    metric.update([make_row()])
    assert math.isnan(metric.compute().item())
