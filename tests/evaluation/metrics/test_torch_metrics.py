from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from torchmetrics.utilities import dim_zero_sum

from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics.fluency import known_pairs
from meow_lightning.evaluation.metrics.forget_quality import forget_quality
from meow_lightning.evaluation.metrics.torch_metrics import (
    Ended,
    ExactMemorisation,
    ExtractionStrength,
    Fluency,
    ForgetQuality,
    NormalisedProbability,
    Probability,
    Repetition,
    Rouge1Recall,
    RougeLRecall,
    TruthRatio,
    ValueAccuracy,
)
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]


def test_uneven_processes_give_the_mean_of_all_rows(make_row: MakeRow) -> None:
    # 1/2 and 1/4 and 1/8 over three rows: 7/24; a mean of the two processes' means would be (3/8 + 1/8) / 2 = 1/4
    rows = [make_row(index=i, truth=[math.log(p)]) for i, p in enumerate((1 / 2, 1 / 4, 1 / 8))]
    first, second = Probability(), Probability()
    first.update(rows[:2])
    second.update(rows[2:])
    second.merge_state(first)
    assert second.compute().item() == pytest.approx(7 / 24, rel=1e-12)
    assert second.count.item() == 3


def test_every_state_is_summed_over_processes() -> None:
    # what torchmetrics does with the states that it gathers from the other processes
    metric = Probability()
    assert metric._reductions == {"total": dim_zero_sum, "count": dim_zero_sum}


def test_rouge_and_truth_ratio(make_row: MakeRow) -> None:
    rouge = RougeLRecall()
    rouge.update([make_row(answer="red blue", text="red"), make_row(answer="red", text="red")])
    # the mean of 1/2 and 1
    assert rouge.compute().item() == 0.75
    ratio = TruthRatio(mean="arithmetic")
    ratio.update([make_row("retain", truth=[math.log(0.5)], perturbed=[[math.log(0.1)], [math.log(0.4)]])])
    # 1 - (0.1 + 0.4) / 2 / 0.5 = 1/2
    assert ratio.compute().item() == pytest.approx(0.5, rel=1e-12)


def test_value_accuracy_leaves_rows_without_a_value_out(make_row: MakeRow) -> None:
    metric = ValueAccuracy()
    metric.update([make_row(value="Paris"), make_row(value=None), make_row(value="Rome")])
    # 1 of 2
    assert metric.compute().item() == 0.5
    metric.reset()
    metric.update([make_row(value=None)])
    assert math.isnan(metric.compute().item())


def test_memorisation_leaves_rows_without_tokens_out(make_row: MakeRow) -> None:
    # words 1 0 1 and 1 1: memorised 2/3 and 1, extractable 1/3 and 1
    rows = [
        make_row(index=0, truth=[-1.0] * 4, hits=[1, 0, 1, 1]),
        make_row(index=1, truth=[-1.0] * 3, hits=[1, 1, 1]),
    ]
    logged = make_row(index=2)
    rows.append(replace(logged, truth=replace(logged.truth, hits=(), mean=(), std=())))
    for metric, expected in ((ExactMemorisation(), 5 / 6), (ExtractionStrength(), 2 / 3)):
        metric.update(rows)
        assert metric.compute().item() == pytest.approx(expected, rel=1e-12)
        assert metric.count.item() == 2


def test_words_of_the_greedy_answers(make_row: MakeRow) -> None:
    rows = [
        make_row(index=0, question="q", answer="a b", text="c d", stop="length"),
        make_row(index=1, question="q", answer="c d", text="b b b b b", generated=(), stop="length"),
    ]
    # the first says [c] [c d] [d], all of the second row's answer; the second [b] [b b] x 4 [b], of which the row
    # before holds [b] at the end only: 1 and 1/6
    fluency = Fluency(known=known_pairs(rows))
    fluency.update(rows)
    assert fluency.compute().item() == pytest.approx(7 / 12, rel=1e-12)
    # runs of four: none, and two that are alike
    repetition = Repetition()
    repetition.update(rows)
    assert repetition.compute().item() == 0.25
    ended = Ended()
    ended.update(rows)
    assert (ended.compute().item(), ended.count.item()) == (0.0, 1)


def test_rouge_1_and_normalised_probability(make_row: MakeRow) -> None:
    rouge = Rouge1Recall()
    rouge.update([make_row(answer="red blue", text="blue red"), make_row(answer="red blue", text="red")])
    # the mean of 1 and 1/2
    assert rouge.compute().item() == 0.75
    share = NormalisedProbability()
    share.update([make_row(truth=[math.log(0.2)], perturbed=[[math.log(0.1)], [math.log(0.1)]])])
    assert share.compute().item() == pytest.approx(0.5, rel=1e-12)


def _forget_rows(make_row: MakeRow, ratios: Sequence[float]) -> list[AnswerRow]:
    return [make_row(index=i, truth=[-1.0], perturbed=[[-1.0 + ratio]]) for i, ratio in enumerate(ratios)]


def test_forget_quality_over_two_processes(make_row: MakeRow) -> None:
    ratios, retain_ratios = [-3.0, -2.0, -1.0], [-1.5, -0.5, -0.25]
    rows, retain = _forget_rows(make_row, ratios), _forget_rows(make_row, retain_ratios)
    first, second = (ForgetQuality(retain=retain, mean="geometric") for _ in range(2))
    # the way a distributed sampler deals rows out
    first.update([rows[0], rows[2]])
    second.update([rows[1]])
    second.merge_state(first)
    numbers = {name: value.item() for name, value in second.compute().items()}
    expected = forget_quality(ratios, retain_ratios)
    assert numbers == {"p": expected.p, "log10_p": expected.log10_p, "distance": expected.distance, "rows": 3.0}


def test_forget_quality_notices_padding_and_gaps(make_row: MakeRow) -> None:
    rows = _forget_rows(make_row, [-3.0, -2.0])
    metric = ForgetQuality(retain=rows, mean="geometric")
    metric.update([*rows, rows[0]])
    with pytest.raises(UserError, match="3 rows of 2 questions were added, the retain model has 2 questions"):
        metric.compute()
    metric.reset()
    metric.update(rows[:1])
    with pytest.raises(UserError, match="1 rows of 1 questions were added"):
        metric.compute()


def test_forget_quality_refuses_other_questions(make_row: MakeRow) -> None:
    metric = ForgetQuality(retain=_forget_rows(make_row, [-3.0, -2.0]), mean="geometric")
    with pytest.raises(
        UserError, match="the evaluated model has fact 'forget-1', the retain model has fact 'forget-1'"
    ):
        metric.update([make_row(index=1, question="Something else?", perturbed=[[-1.0]])])
