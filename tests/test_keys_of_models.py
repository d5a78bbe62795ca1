"""Every number that a model is made with stands in its key."""

from __future__ import annotations

import pytest
from helpers.hydra import moved

MADE = (
    "model.vocab_size=500", "model.seed=7", "model.architecture.hidden_size=64", "model.architecture.layers=1",
    "model.architecture.heads=2", "model.architecture.intermediate_size=64", "model.architecture.context=128",
    "model.precision=64-true", "model.attention=eager", "model.prompt.answer_prefix='  '", "model.pretrain.rows=31",
    "model.prompt.template='Q: {question}'",
)  # fmt: skip
RECIPE = (
    "global_batch_size=21", "epochs=3", "lr=1e-3", "betas=[0.8,0.95]", "eps=1e-6", "weight_decay=0.2",
    "max_grad_norm=0.5", "warmup=7", "schedule=constant",
)  # fmt: skip


@pytest.mark.parametrize("word", [*MADE, *(f"model.pretrain.{word}" for word in RECIPE)])
def test_options_of_a_base_model_change_its_key_and_those_of_all_models_made_from_it(word: str) -> None:
    assert {"base", "target", "retain", "unlearned"} <= moved(word)


@pytest.mark.parametrize("word", ["replay=1", *RECIPE[:-1], "schedule=constant"])
def test_options_of_fine_tuning_change_its_keys_and_no_base_model(word: str) -> None:
    found = moved(f"model.finetune.{word}")
    assert {"target", "retain", "unlearned"} <= found
    assert not {"base", "proposed", "filtered"} & found


@pytest.mark.parametrize("word", [*RECIPE[:-1], "schedule=linear", "sam_rho=0.01"])
def test_options_of_unlearning_change_its_key_and_no_model_before(word: str) -> None:
    found = moved(f"optim.{word}")
    assert {"unlearned", "predict/unlearned", "score/unlearned/answers", "results", "report"} == found
