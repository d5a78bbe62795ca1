from __future__ import annotations

from typing import Any

import pytest

from meow_lightning.resources.cost import (
    MeasuredMemory,
    MeasuredStage,
    Workload,
    expected_memory,
    expected_seconds,
    inference_flops,
    training_flops,
)
from meow_lightning.resources.training_memory import tiny_dims

# 2048 entries x 128 of embedding and head in one; 426,624 weights in two layers and the last norm.
TINY = tiny_dims({"hidden_size": 128, "layers": 2, "heads": 4, "intermediate_size": 384}, 2048)


def test_the_head_is_multiplied_at_scored_tokens_alone() -> None:
    assert (TINY.body_parameters, TINY.head_parameters) == (426_624, 262_144)
    assert inference_flops(TINY, tokens=10, scored=3) == 2 * (10 * 426_624 + 3 * 262_144) == 10_105_344


@pytest.mark.parametrize(
    ("wish", "passes"),
    [
        ({}, 3),
        ({"gradient_checkpointing": True}, 4),
        ({"adapters": True}, 2),
        ({"gradient_checkpointing": True, "adapters": True}, 3),
        ({"reference": True}, 4),
    ],
)
def test_operations_of_training(wish: dict[str, bool], passes: int) -> None:
    given = {"gradient_checkpointing": False, "adapters": False, "reference": False, **wish}
    assert training_flops(TINY, tokens=10, scored=3, **given) == passes * 10_105_344


def amount(flops: float, millions: float = 1, items: int = 1) -> Workload:
    return Workload(flops=flops, parameters=int(millions * 1e6), items=items)


def took(seconds: float, flops: float, millions: float = 1, way: str = "a", items: int = 1) -> MeasuredStage:
    return MeasuredStage(key=way, workload=amount(flops, millions, items), seconds=seconds)


def expected(flops: float, millions: float, *known: MeasuredStage, **more: Any) -> tuple[float | None, str]:
    return expected_seconds(amount(flops, millions, **more), key="a", known=known)


def test_time_grows_with_the_work() -> None:
    assert expected(600.0, 1, took(2.0, 100.0)) == (12.0, "like")  # 50 a second
    assert expected(600.0, 1, took(2.0, 100.0), took(1.0, 150.0), took(9.0, 180.0)) == (12.0, "like")  # median rate


def test_five_thousand_facts_of_a_large_model_do_not_take_the_seconds_of_a_few_of_a_tiny_one() -> None:
    seconds, source = expected(200.0 * 78 * 1e9, 135, took(2.0, 1e9, 0.69))
    assert (seconds, source) == (31_200.0, "far")


def test_the_nearest_model_counts() -> None:
    tiny, near, large = took(1.0, 1000.0, 0.7), took(1.0, 100.0, 90), took(1.0, 10.0, 7000)
    assert expected(600.0, 135, tiny, near, large) == (6.0, "size")
    assert expected(600.0, 1350, near, large) == (60.0, "size")
    assert expected(600.0, 900, near) == (6.0, "size")
    assert expected(600.0, 901, near) == (6.0, "far")  # more than ten times the weights


def test_the_same_way_counts_before_others_of_that_size() -> None:
    assert expected(600.0, 1, took(1.0, 100.0), took(1.0, 200.0, way="b")) == (6.0, "like")
    assert expected(600.0, 1, took(1.0, 200.0, way="b")) == (3.0, "size")
    # a model of another size is another way of doing it, and it is not looked at beside one of the same size
    assert expected(600.0, 1, took(1.0, 100.0, 2), took(1.0, 200.0, way="b")) == (3.0, "size")


def test_small_runs_are_ignored_if_there_are_large_ones() -> None:
    start = took(10.0, 33.0)  # nearly all of it start-up
    assert expected(600.0, 1, start, took(1.0, 100.0)) == (6.0, "like")
    assert expected(330.0, 1, start) == (100.0, "like")


def test_where_no_model_computes_items_count() -> None:
    known = [took(2.0, 0.0, 0, items=64), took(1.0, 500.0, items=1)]
    assert expected_seconds(amount(0.0, 0, items=640), key="a", known=known) == (20.0, "like")


@pytest.mark.parametrize(
    "known",
    [(), (took(2.0, 0.0, 0, items=9),), (took(0.0, 5.0),), (took(3.0, 0.0, 0, items=0),)],
    ids=["nothing", "no model", "no time", "no work"],
)
def test_without_similar_stages_the_duration_is_unknown(known: tuple[MeasuredStage, ...]) -> None:
    assert expected(600.0, 1, *known) == (None, "")
    assert expected_seconds(amount(0.0, 0, items=0), key="a", known=[took(1.0, 0.0, 0, items=3)]) == (None, "")


def test_memory_is_corrected_by_the_measured_peaks_of_like_stages() -> None:
    like = [MeasuredMemory(parameters=100, estimate=1000, peak=peak) for peak in (500, 800, 900)]
    assert expected_memory(1200, parameters=120, known=like) == (960, "measured")
    assert expected_memory(1200, parameters=120, known=[]) == (1200, "estimated")


@pytest.mark.parametrize(("parameters", "estimate"), [(79, 1000), (126, 1000), (100, 799), (100, 1251), (100, 0)])
def test_memory_of_another_model_or_batch_size_corrects_nothing(parameters: int, estimate: int) -> None:
    other = [MeasuredMemory(parameters=parameters, estimate=estimate, peak=1)]
    assert expected_memory(1000, parameters=100, known=other) == (1000, "estimated")


def test_measured_memory_is_that_of_the_estimated_device() -> None:
    manifest = {"parameters": 100, "memory": 1000, "peak_memory_mib": 2.0, "peak_gpu_memory_mib": 0.5}
    assert MeasuredMemory.of(manifest, gpu=True) == MeasuredMemory(parameters=100, estimate=1000, peak=2**19)
    assert MeasuredMemory.of(manifest, gpu=False) == MeasuredMemory(parameters=100, estimate=1000, peak=2**21)
    assert MeasuredMemory.of({**manifest, "memory": 0}, gpu=False) is None
    assert MeasuredMemory.of({"parameters": 100, "memory": 1000}, gpu=False) is None
