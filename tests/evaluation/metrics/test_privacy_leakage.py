from __future__ import annotations

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import MetricSettings
from meow_lightning.evaluation.metrics.privacy_leakage import PrivacyLeakage, privacy_leakage


@pytest.mark.parametrize(
    ("auc", "retain", "expected"),
    [
        # ((1 - .9) - (1 - .5)) / (1 - .5) = (.1 - .5) / .5: still looks like training data
        (0.9, 0.5, -0.8),
        # (.9 - .5) / .5: looks more foreign than texts never seen
        (0.1, 0.5, 0.8),
        (0.4, 0.4, 0.0),
        # a retain model below .5: .7 - .6 over .6
        (0.3, 0.4, 1 / 6),
        (1.0, 0.25, -1.0),
        # the other extreme: .25 / .75
        (0.0, 0.25, 1 / 3),
    ],
)
def test_by_hand(auc: float, retain: float, expected: float) -> None:
    assert privacy_leakage(auc, retain) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_a_retain_model_that_is_distinguished_perfectly_is_refused() -> None:
    with pytest.raises(UserError, match="the attack's AUC on the retain model is 1, and privacy leakage divides by"):
        privacy_leakage(0.5, 1.0)


def test_the_published_share_comes_first() -> None:
    first, second = PrivacyLeakage().definitions((), MetricSettings())
    assert (first.name, second.name) == ("privacy_leakage/min_k_40", "privacy_leakage/min_k_20")
    assert "(least likely 40% of the tokens)" in first.text
    assert first.order < second.order
