"""Relearning step by step: the first step at half of the target's value, in words and as a picture."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from meow_lightning.report.relearning import (
    MEASURED,
    relearning_curves,
    relearning_picture,
    relearning_sentences,
    steps_to_half,
)
from meow_lightning.types import Results

RESULTS = Results(
    definitions=(), values={"target": {"forget/value_accuracy": 0.8}},
    conditions={"relearn": "after relearning", "int4": "after int4"},
)  # fmt: skip


def data(**curves: list[float]) -> Any:
    """Curves of the attack ``relearn`` by role, a point every two steps; other points are no measurements."""
    rows = {
        f"{role}@relearn": [{"step": 1, "loss": 3.0}, *({"step": 2 * at, MEASURED: each} for at, each in enumerate(of))]
        for role, of in curves.items()
    }
    return SimpleNamespace(results=RESULTS, curves=rows)


def test_the_first_step_at_half_of_the_targets_value_counts() -> None:
    points = [(0, 0.0), (2, 0.39), (4, 0.4), (6, 0.1), (8, 0.9)]
    assert steps_to_half(points, full=0.8) == 4
    assert steps_to_half(points[:2], full=0.8) is None
    assert steps_to_half(points, full=0.0) == 0


def test_what_was_measured_is_said_of_both_models_and_drawn() -> None:
    measured = data(target=[0.8, 0.8], unlearned=[0.0, 0.5], retain=[0.0, 0.1])
    assert relearning_curves(measured)["relearn"]["unlearned"] == [(0, 0.0), (2, 0.5)]
    assert relearning_sentences(measured) == [
        "After relearning: half of the target model's value accuracy (0.40) is reached by the unlearned model after 2 "
        "of 2 steps, by the retain model at none of 2 steps (at most 0.10)."
    ]
    svg = relearning_picture(measured).svg
    assert svg is not None
    assert "After relearning" in svg


def test_without_a_curve_nothing_is_said() -> None:
    assert relearning_curves(data(unlearned=[])) == {}
    assert relearning_sentences(data()) == []
    picture = relearning_picture(data())
    assert picture.svg is None
    assert "attacks.relearn.curve" in picture.missing
