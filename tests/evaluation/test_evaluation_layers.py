"""Numbers about hidden states: means over the questions that count, intervals, and reasons why one is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from meow_lightning.attacks.activation_patching import ActivationPatching
from meow_lightning.attacks.logit_lens import LogitLens
from meow_lightning.evaluation.layers import (
    LayerRow,
    Readings,
    is_layer_number,
    layer_means,
    layer_samples,
    with_layers,
)
from meow_lightning.evaluation.suite.bootstrap import Bootstrap
from meow_lightning.types import ROLES, Results

EMPTY = Results(definitions=(), values={role: {} for role in ROLES})


def rows(*layers: list[float]) -> list[LayerRow]:
    return [LayerRow(f"f{place}", "x" if each else "", each) for place, each in enumerate(layers)]


LENS = Readings(
    name="logit_lens", label="in the logit lens", attack=LogitLens(threshold=0.05),
    rows={  # the third question marks no value, and on the second the target model knows no more than the retain model
        "target": rows([0.5, 0.9], [0.2, 0.2], []),
        "unlearned": rows([0.5, 0.1], [0.3, 0.1], []),
        "retain": rows([0.1, 0.1], [0.2, 0.1], []),
    },
)  # fmt: skip
PATCHING = Readings(
    name="patching", label="by activation patching", attack=ActivationPatching(threshold=0.05),
    rows={"unlearned": rows([0.5, 3.0], [1.0, 1.0]), "retain": rows([1.0, 3.0], [0.0, 0.04])},
)  # fmt: skip


def test_numbers_are_means_over_the_questions_that_count() -> None:
    results = with_layers(EMPTY, [LENS, PATCHING], absent={})
    found = results.values["unlearned"]
    assert found == pytest.approx({
        "layers/logit_lens/probability": 0.4, "layers/logit_lens/probability_covered": 2.0,
        "layers/logit_lens/probability_out_of": 3.0,
        "layers/logit_lens/erasure": 0.5, "layers/logit_lens/erasure_covered": 1.0,
        "layers/logit_lens/erasure_out_of": 3.0,
        "layers/patching/uds": 3.5 / 4, "layers/patching/uds_covered": 1.0, "layers/patching/uds_out_of": 2.0,
    })  # fmt: skip
    assert [results.values[role]["layers/patching/uds"] for role in ("target", "retain")] == [0.0, 1.0]
    assert [results.values[role]["layers/logit_lens/erasure"] for role in ("target", "retain")] == [0.0, 1.0]
    assert {known.name for known in results.definitions} == set(found)
    assert all(is_layer_number(name) for name in found)
    assert not is_layer_number("forget/value_accuracy")
    assert not any(results.missing.values())


def test_layers_are_averaged_over_the_questions_with_a_value() -> None:
    assert layer_means(LENS.rows["unlearned"]) == pytest.approx([0.4, 0.1])
    assert layer_means(rows([], [])) == []


def test_without_a_retain_model_only_what_needs_none_is_measured() -> None:
    lens = replace(LENS, rows={role: LENS.rows[role] for role in ("target", "unlearned")})
    results = with_layers(EMPTY, [lens], absent={"retain": "no retain model was given"})
    assert results.values["unlearned"]["layers/logit_lens/probability"] == pytest.approx(0.4)
    assert results.missing["unlearned"]["layers/logit_lens/erasure"] == "not measured: no retain model was given"
    assert results.missing["retain"]["layers/logit_lens/probability"] == "not measured: no retain model was given"


def test_a_model_without_layers_of_its_own_is_missing_with_the_reason() -> None:
    patching = replace(PATCHING, rows={"retain": PATCHING.rows["retain"]})
    results = with_layers(EMPTY, [patching], absent={"unlearned": "it answers through two models"})
    assert results.missing["unlearned"]["layers/patching/uds"] == "not measured: it answers through two models"
    assert results.values["target"]["layers/patching/uds"] == 0.0


def test_a_set_without_values_and_a_target_that_knows_nothing_are_named() -> None:
    blank = replace(LENS, rows={role: rows([], []) for role in ROLES})
    reasons = with_layers(EMPTY, [blank], absent={}).missing["unlearned"]
    assert "no question of the forget set marks a value" in reasons["layers/logit_lens/probability"]
    ignorant = replace(LENS, rows=dict.fromkeys(ROLES, rows([0.1, 0.1])))
    reasons = with_layers(EMPTY, [ignorant], absent={}).missing["unlearned"]
    assert "no question of the forget set has a value that the layers" in reasons["layers/logit_lens/erasure"]


def test_nothing_is_added_without_attacks_on_hidden_states() -> None:
    assert with_layers(EMPTY, [], absent={}) == EMPTY


def test_intervals_resample_the_questions_that_count() -> None:
    bootstrap = Bootstrap(bootstrap_samples=200, seed=0)
    found = layer_samples([LENS], bootstrap=bootstrap)["unlearned"].drawn
    probability = found["layers/logit_lens/probability"]
    assert probability.shape == (200,)
    assert {round(each, 6) for each in probability[np.isfinite(probability)]} >= {0.3, 0.4, 0.5}
    erasure = found["layers/logit_lens/erasure"]
    assert set(erasure[np.isfinite(erasure)].round(6)) == {0.5}
    patching = replace(PATCHING, rows={"retain": PATCHING.rows["retain"]})
    assert layer_samples([patching], bootstrap=bootstrap)["unlearned"].drawn == {}
    assert layer_samples([PATCHING], bootstrap=bootstrap)["target"].unanimous == {"layers/patching/uds": 1}
    assert layer_samples([], bootstrap=bootstrap) == {}
