from __future__ import annotations

import math
import random
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics.membership import (
    ATTACKS,
    SMALLEST_STD,
    auc,
    gradient_score,
    is_under_the_model,
    loss_score,
    min_k_attack,
    min_k_plus_plus_attack,
    min_k_plus_plus_score,
    min_k_score,
    reference_score,
    zlib_score,
)
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]


def test_auc_by_hand() -> None:
    # 3 beats 1, 2, 2; 2 beats 1 and ties twice: (3 + 1 + 2/2) of 6
    assert auc([3.0, 2.0], [1.0, 2.0, 2.0]) == pytest.approx(5 / 6, rel=1e-12)
    assert auc([1.0, 2.0], [-1.0, 0.0]) == 1.0
    assert auc([-1.0], [0.0, 5.0]) == 0.0
    assert auc([0.0], [0.0]) == 0.5
    assert auc([-math.inf, 0.0], [-math.inf]) == pytest.approx(3 / 4, rel=1e-12)


def test_auc_properties() -> None:
    source = random.Random(0)
    # few values, so that there are many ties
    left, right = ([float(source.randrange(9)) for _ in range(n)] for n in (50, 31))
    assert auc(left, left) == 0.5
    assert auc(left, right) + auc(right, left) == pytest.approx(1.0, rel=1e-12)
    pairs = sum((a > b) + (a == b) / 2 for a in left for b in right)
    assert auc(left, right) == pytest.approx(pairs / (50 * 31), rel=1e-12)
    # only the order counts
    assert auc([a**3 for a in left], [b**3 for b in right]) == auc(left, right)


def test_auc_refuses_nothing_and_no_numbers() -> None:
    with pytest.raises(UserError, match="got 0 scores of members and 1 of others, 0 of them NaN"):
        auc([], [1.0])
    with pytest.raises(UserError, match="got 1 scores of members and 2 of others, 1 of them NaN"):
        auc([1.0], [math.nan, 1.0])


def test_loss_zlib_and_reference() -> None:
    assert loss_score([-1.0, -3.0]) == -2.0
    text = "The same word the same word the same word the same word."
    assert zlib_score([-1.0, -3.0], text) == -2.0 / len(zlib.compress(text.encode()))
    # the same loss on a text that compresses worse is less surprising, so speaks more for membership
    assert zlib_score([-2.0], "q8#kZ0!vR5*w@3nX") > zlib_score([-2.0], "aaaaaaaaaaaaaaaa")
    # loss 2 here and 3.5 in the retain model: 1.5 nats less
    assert reference_score([-1.0, -3.0], [-3.0, -4.0]) == 1.5


def test_min_k_by_hand() -> None:
    logps = [-1.0, -5.0, -2.0, -4.0, -3.0]
    # one of five tokens, then two of them
    assert min_k_score(logps, k=0.2) == -5.0
    assert min_k_score(logps, k=0.4) == -4.5
    assert min_k_score(logps, k=1.0) == loss_score(logps)
    # floor(.4 * 4) = 1; at least one token always counts
    assert min_k_score(logps[:4], k=0.4) == -5.0
    assert min_k_score([-7.0], k=0.2) == -7.0
    # .29 * 100 is 28.999999999999996 in floats, and means 29: (-99 - ... - 71) / 29 = -85
    assert min_k_score([-float(i) for i in range(100)], k=0.29) == -85.0


@pytest.mark.parametrize("k", [0.0, -0.2, 1.1, math.nan])
def test_min_k_refuses_other_shares(k: float) -> None:
    with pytest.raises(UserError, match=r"^k=\S+ is invalid: expected a number above 0 and at most 1"):
        min_k_score([-1.0], k=k)


def test_min_k_plus_plus_by_hand() -> None:
    # z = (-1 + 2)/.5 = 2, (-4 + 2)/1 = -2, (-3 + 1)/4 = -.5; the least of three, then the least two
    logps, mean, std = [-1.0, -4.0, -3.0], [-2.0, -2.0, -1.0], [0.5, 1.0, 4.0]
    assert min_k_plus_plus_score(logps, mean, std, k=0.4) == -2.0
    assert min_k_plus_plus_score(logps, mean, std, k=0.7) == -1.25
    # a model that is certain and right: 0, not 0 / 0
    assert min_k_plus_plus_score([0.0], [0.0], [0.0], k=0.2) == 0.0
    assert min_k_plus_plus_score([-1.0], [0.0], [0.0], k=0.2) == -1.0 / SMALLEST_STD


def test_a_small_gradient_speaks_for_membership() -> None:
    assert gradient_score(0.25) > gradient_score(4.0) == -4.0
    assert math.isnan(gradient_score(None))


def test_the_attacks_read_the_true_answer(make_row: MakeRow) -> None:
    logps = [-1.0, -5.0, -2.0, -4.0, -3.0]
    row = make_row(truth=logps, perturbed=[[-9.0]], answer="abc", text="else", gradient=1.5)
    scores = {attack.number: attack.score(row) for attack in ATTACKS if attack.score is not None}
    assert scores["membership/loss_auc"] == -3.0
    assert scores["membership/zlib_auc"] == zlib_score([-3.0], "abc")
    assert (scores["membership/min_k_20_auc"], scores["membership/min_k_40_auc"]) == (-5.0, -4.5)
    # mean -9.5 and deviation 2.25 at each place: (-5 + 9.5) / 2.25 = 2
    assert scores["membership/min_k_plus_plus_20_auc"] == 2.0
    assert scores["membership/gradient_norm_auc"] == -1.5
    assert [attack.number for attack in ATTACKS if attack.score is None] == ["membership/reference_auc"]
    assert min_k_attack(0.3).number == "membership/min_k_30_auc"
    assert min_k_plus_plus_attack(0.3).score(row) == 2.0


def test_means_over_all_entries_differ_from_those_by_model(make_row: MakeRow) -> None:
    truth = replace(make_row(truth=[-1.0, -1.0]).truth, ids=(0, 3))
    # p = .97 .01 .01 .01: over all entries alike the mean is (log .97 + 3 log .01) / 4 = -3.46 <= -log 4;
    # under p it is .97 log .97 + .03 log .01 = -0.168
    alike = (math.log(0.97) + 3 * math.log(0.01)) / 4
    under = 0.97 * math.log(0.97) + 0.03 * math.log(0.01)
    assert not is_under_the_model([replace(truth, mean=(alike, alike))])
    assert is_under_the_model([replace(truth, mean=(alike, alike)), replace(truth, mean=(alike, under))])
    # a uniform p of four entries: both means are -log 4, which does not tell
    assert not is_under_the_model([replace(truth, mean=(-math.log(4),) * 2)])
