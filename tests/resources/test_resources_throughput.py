from __future__ import annotations

import pytest

from meow_lightning.resources.throughput import HISTORY, PATIENCE, Throughput


def rate(*looks: tuple[float, int]) -> float | None:
    pace = Throughput()
    for time, done in looks:
        pace.add(time, done)
    return pace.rate()


def test_the_first_unit_is_excluded():
    # Half a minute of warm-up for the first unit, then two units a second.
    looks = [(0.0, 0), (30.0, 1), (31.0, 3), (32.0, 5), (33.0, 7), (34.0, 9)]
    assert [rate(*looks[:count]) for count in range(1, 7)] == [None, None, None, None, 2.0, 2.0]


def test_a_resumed_stage_is_measured_from_where_it_goes_on():
    assert rate((0.0, 500), (9.0, 501), (11.0, 503), (13.0, 505)) == 1.0


def test_halves_that_do_not_agree_are_no_estimate_until_long_after():
    # 100 units a second from cache, then one: an estimate of the first seconds would be off by a hundred.
    looks = [(0.0, 0), (1.0, 100), (2.0, 200), (3.0, 300), (4.0, 301), (5.0, 302)]
    assert rate(*looks) is None
    slow = [(5.0 + second, 302 + second) for second in range(1, 61)]
    assert rate(*looks, *slow) == pytest.approx(1.0)
    assert slow[-1][0] > PATIENCE


@pytest.mark.parametrize("looks", [[], [(0.0, 0)], [(0.0, 0)] * 9, [(0.0, 0), (1.0, 1), (9.0, 2)]])
def test_too_little_is_known(looks):
    assert rate(*looks) is None


def test_the_cache_is_bounded():
    pace = Throughput()
    for number in range(100_000):
        pace.add(number / 10, number)
    assert len(pace._samples) <= HISTORY
    assert pace.rate() == pytest.approx(10.0)
