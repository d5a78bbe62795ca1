"""Published results of the unlearning depth score's repository: translated settings, and only runs that have them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from helpers.sweeps import swept

from meow_lightning.config.hydra_errors import choices
from meow_lightning.errors import UserError
from meow_lightning.report.paper_comparison import comparable_run, paper_figures
from meow_lightning.sweep.uds_results import METHODS, NUMBERS, SOURCE, published_settings, uds_results

DATA = os.environ.get("MEOW_DATA_DIR")
NPO = {
    "model": "npo_lr2e5_b01_a5_ep10", "epoch": "ep10", "method": "npo", "alpha": 5, "lr": 2e-5, "model_utility": 0.5,
    "one_minus_es": 0.875, "one_minus_em": 0.25, "retain_q_prob": 0.75, "retain_q_rouge": 0.625,
}  # fmt: skip
SETTINGS = {
    "optim.lr": 2e-5,
    "optim.epochs": 10,
    "method.beta": 0.1,
    "method.retain_weight": 5.0,
    "method.retain": "ce",
}
WORDS = ("model=llama3_2_1b_instruct", "dataset=tofu", "dataset.split=forget10", "method=npo_gd")
OPTIONS: dict[str, Any] = {"optim.lr": 2e-5, "optim.epochs": 10, "method.beta": 0.1, "method.retain_weight": 5.0}


@pytest.fixture
def published(tmp_path: Path, monkeypatch):
    def write(*models: dict) -> list:
        (tmp_path / "uds").mkdir(exist_ok=True)
        (tmp_path / "uds" / "method_results.json").write_text(json.dumps({"models": models}))
        monkeypatch.setenv("MEOW_DATA_DIR", str(tmp_path))
        return uds_results()

    return write


@pytest.mark.parametrize(
    ("name", "method", "expected"),
    [
        (NPO["model"], "npo", SETTINGS),
        ("simnpo_lr1e5_b35_a1_d1_g0125_ep10", "simnpo", {
            "method.beta": 3.5, "method.retain_weight": 1.0, "method.delta": 1.0, "method.forget_weight": 0.125,
        }),
        ("undial_lr1e4_b10_a2_ep10", "undial", {"method.beta": 10.0, "method.retain_weight": 2.0}),
        ("rmu_lr1e5_l15_s10_ep10", "rmu", {"method.layer": 15, "method.steering": 10.0}),
        ("graddiff_lr1e5_a2_ep10", "graddiff", {"method.retain_weight": 2.0, "method.retain": "ce"}),
    ],
)  # fmt: skip
def test_the_settings_are_read_from_the_name(name: str, method: str, expected: dict) -> None:
    found = published_settings({**NPO, "model": name, "method": method})
    assert {option: found[option] for option in expected} == expected
    assert found.keys() == {"optim.lr", "optim.epochs", *expected} | ({"method.retain"} & found.keys())


def test_a_run_with_these_settings_stands_beside_the_published_numbers(published) -> None:
    run = swept(*WORDS, values={"unlearned": {"model_utility": 0.25}}, **OPTIONS)
    found = paper_figures([run], published(NPO))
    assert found is not None
    (_, (_, *rows)), (note,) = found
    ours = {row[1]: row[2:] for row in rows}
    source = f"{SOURCE}: optim.lr=2e-05, optim.epochs=10, method.beta=0.1, method.retain_weight=5"
    assert ours["model utility"] == ["0.250", "0.500", source]
    assert ours["forget extraction strength"][:2] == ["—", "0.125"]
    assert ours["forget exact memorisation"][:2] == ["—", "0.750"]
    assert note.startswith(f"{source}: published results for forget10")


@pytest.mark.parametrize(
    "changes",
    [{"optim.lr": 1e-5}, {"optim.lr": None}, {"optim.epochs": 5}, {"method.beta": 0.2}, {"method.retain_weight": 1.0},
     {"method.retain": "kl"}, {"model.name": "tiny"}, {"dataset.split": "forget05"}, {"limit": 8}],
)  # fmt: skip
def test_a_run_with_other_settings_or_another_model_matches_nothing(changes: dict, published) -> None:
    (source,) = published(NPO)
    assert comparable_run(swept(*WORDS, **OPTIONS), source)
    assert comparable_run(swept(*WORDS, **{**OPTIONS, **changes}), source) == {}


def test_without_the_file_there_are_none_and_another_file_is_an_error(published, monkeypatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"method_results.json is not docs/data/method_results.json of"):
        published({"model": "npo"})
    monkeypatch.setenv("MEOW_DATA_DIR", str(tmp_path / "elsewhere"))
    assert uds_results() == []
    monkeypatch.delenv("MEOW_DATA_DIR")
    assert uds_results() == []


def test_methods_exist_here() -> None:
    assert set(METHODS.values()) <= set(choices("method"))


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="MEOW_DATA_DIR is not set")
def test_the_published_file_is_read_whole() -> None:
    found = uds_results()
    assert len(found) == 152
    figures = [numbers for each in found for numbers in each.figures["llama3_2_1b_instruct"]["forget10"].values()]
    assert all(0 <= value <= 1 for numbers in figures for value in numbers.values())
    assert all(numbers.keys() == NUMBERS.keys() for numbers in figures)
    # Every published model has settings of its own, or is a reference.
    assert len({str(sorted(each.settings.items())) + str(each.figures.keys()) + str(
        [*each.figures["llama3_2_1b_instruct"]["forget10"]]) for each in found}) == 152  # fmt: skip
