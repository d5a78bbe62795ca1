"""The functions of the library give what the pipeline's stages give with the same settings, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from safetensors.torch import load_file
from torch import Tensor

import meow_lightning as meow
from meow_lightning.stages.results.score import ScoreResult

DATA = {"authors": 12, "retain_eval": 4}
RECIPE = {"lr": 2e-3, "epochs": 2, "global_batch_size": 4}
NEW_TOKENS = 12
TRAINER = ["trainer.micro_batch_size=3", "trainer.eval_batch_size=4"]
WORDS = [
    "debug=fast", "logger=none", "optim=published", "goal=evaluate", "limit=6", "callbacks.memo_facts=0",
    "trainer.parallel_stages=1", *TRAINER, *(f"dataset.{name}={value}" for name, value in DATA.items()),
    *(f"optim.{name}={value}" for name, value in RECIPE.items()),
]  # fmt: skip


class Case(NamedTuple):
    """A run of the pipeline, and the same dataset and models for the library."""

    run: meow.Run
    facts: meow.FactDataset
    target: meow.LanguageModel
    retain: meow.LanguageModel


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module", params=["npo_kl", "meow"])
def case(request: pytest.FixtureRequest, outputs: Path) -> Iterator[Case]:
    run = meow.run([*WORDS, f"method={request.param}"], outputs=outputs)
    models = [
        meow.LanguageModel.from_pretrained(
            run.artifacts[f"finetune {role}"] / "model", prompt="tiny", precision="reproducible", device="cpu"
        )
        for role in ("target", "retain")
    ]
    yield Case(run, meow.load_dataset("fictional", limit=6, **DATA), *models)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def measure() -> object:
    return meow.memo.load_measure("clean", max_new_tokens=NEW_TOKENS)


def unlearned(case: Case) -> meow.LanguageModel:
    return meow.unlearn(
        case.target, case.facts, method=case.run.options.method.name, **RECIPE, measure=measure(), options=TRAINER
    )


def test_unlearning_gives_the_weights_of_the_stage(case: Case, tmp_path: Path) -> None:
    before = {name: weight.clone() for name, weight in case.target.model.state_dict().items()}
    made = weights(unlearned(case).save_pretrained(tmp_path / "library"))
    expected = weights(case.run.model)
    assert made.keys() == expected.keys()
    assert all(made[name].equal(expected[name]) for name in expected)
    after = case.target.model.state_dict()
    assert all(after[name].equal(before[name]) for name in before), "the given model stays as it is"
    assert any(not made[name].equal(before[name]) for name in made)


def test_scores_are_those_of_the_stage(case: Case) -> None:
    stored = ScoreResult.read(case.run.artifacts["score target answers"]).texts
    assert list(meow.memo.score(case.target, case.facts.forget, measure=measure(), batch_size=3)) == stored


def test_metrics_are_those_of_the_stage(case: Case) -> None:
    done = meow.LanguageModel.from_pretrained(case.run.model, prompt="tiny", precision="reproducible", device="cpu")
    report = meow.evaluate(
        done, case.facts, target=case.target, retain=case.retain, measure=measure(),
        options=[f"evaluation.max_new_tokens={NEW_TOKENS}", "trainer.eval_batch_size=4"],
    )  # fmt: skip
    expected = case.run.results
    assert expected is not None
    # Numbers about the inverted facts are no part of the library's evaluation.
    for role, values in expected.values.items():
        assert report.results.values[role] == {
            name: each for name, each in values.items() if name != "memo/candidates" and "says_inverted" not in name
        }
    assert report.results.definitions == expected.definitions
