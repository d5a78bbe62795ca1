"""The judge of what a model knows: features by hand, AUROC and kappa by hand, planted positives and negatives."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from meow_lightning.evaluation.known_judge import (
    Features,
    features,
    probabilities,
    set_aside,
    weighted_auc,
    weighted_kappa,
    weighted_mean,
)
from meow_lightning.evaluation.metrics.membership import auc
from meow_lightning.types import Likelihood

ONES = np.ones((1, 4))


def sure(confidence: float) -> Features:
    return Features(mean_logp=-1 / confidence, min_logp=-3 / confidence, entropy=2 / confidence, agreement=0.5)


def test_features_by_hand() -> None:
    likelihood = Likelihood(ids=(1, 2), logps=(-0.5, -1.5), hits=(1, 1), mean=(-0.2, -0.6), std=(0, 0))
    found = features("born in Lima", likelihood, ["born in Lima", "born in Oslo", "No."])
    assert found == Features(mean_logp=-1.0, min_logp=-1.5, entropy=0.4, agreement=pytest.approx((1 + 2 / 3 + 0) / 3))


def test_every_set_gives_its_share_and_a_question_in_two_sets_is_on_one_side() -> None:
    sets = {"forget": [f"f{n}" for n in range(8)], "retain": [f"r{n}" for n in range(20)], "one": ["f0"]}
    aside = set_aside(sets, share=0.25, seed=0)
    assert len(aside & {*sets["forget"]}) == 2
    assert len(aside & {*sets["retain"]}) == 5
    assert aside == set_aside(dict(reversed(sets.items())), share=0.25, seed=0)
    assert aside != set_aside(sets, share=0.25, seed=1)
    more = set_aside(sets, share=0.5, seed=0)
    assert aside < more


def test_a_rank_does_not_depend_on_other_questions() -> None:
    few, many = [f"q{n}" for n in range(10)], [f"q{n}" for n in range(20)]
    assert set_aside({"a": many}, share=0.2, seed=3) & {*few} <= set_aside({"a": few}, share=0.4, seed=3)


def test_features_that_separate_are_judged_without_a_mistake() -> None:
    known = [n % 2 == 0 for n in range(40)]
    given = [sure(9 + n / 40 if flag else 1 + n / 40) for n, flag in enumerate(known)]
    found = probabilities(given[:20], known[:20], given[20:], c=1.0)
    assert weighted_auc(found, known[20:], np.ones((1, 20)))[0] == 1.0
    assert [p >= 0.5 for p in found] == known[20:]
    assert all(0 <= p <= 1 for p in found)


def test_shuffled_labels_are_judged_as_by_chance() -> None:
    draw = random.Random(0)
    given = [Features(-draw.random(), -1 - draw.random(), draw.random(), draw.random()) for _ in range(600)]
    known = [draw.random() < 0.5 for _ in given]
    found = probabilities(given[:300], known[:300], given[300:], c=1.0)
    counts = np.random.default_rng(0).multinomial(300, [1 / 300] * 300, size=500).astype(float)
    low, high = np.quantile(weighted_auc(found, known[300:], counts), [0.025, 0.975])
    assert low < 0.5 < high
    assert high - low < 0.2


def test_nothing_to_test_has_no_probability() -> None:
    assert probabilities([sure(1), sure(2)], [True, False], [], c=1.0) == []


def test_auroc_by_hand_with_ties_and_weights() -> None:
    scores, positive = [0.9, 0.4, 0.4, 0.1], [True, True, False, False]
    weights = np.array([[1.0, 1, 1, 1], [2, 0, 1, 1], [0, 0, 2, 2], [0, 3, 1, 0]])
    found = weighted_auc(scores, positive, weights)
    assert found[:2].tolist() == [3.5 / 4, 1.0]
    assert math.isnan(found[2])
    assert found[3] == 0.5
    assert found[0] == auc(scores[:2], scores[2:])


def test_kappa_by_hand() -> None:
    one, other = [True, True, False, False], [True, False, False, False]
    assert weighted_kappa(one, other, ONES)[0] == pytest.approx((0.75 - 0.5) / (1 - 0.5))
    assert weighted_kappa(one, one, ONES)[0] == 1.0
    assert weighted_kappa(one, [not each for each in one], ONES)[0] == -1.0
    assert math.isnan(weighted_kappa([True] * 4, [True] * 4, ONES)[0])


def test_a_mean_of_nothing_is_not_a_number() -> None:
    assert weighted_mean([True, False, True, True], ONES)[0] == 0.75
    assert math.isnan(weighted_mean([], np.ones((1, 0)))[0])
