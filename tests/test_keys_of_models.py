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
def test_what_a_base_is_made_with_moves_it_and_all_models_made_from_it(word: str) -> None:
    assert {"base", "target", "retain", "unlearned"} <= moved(word)


@pytest.mark.parametrize("word", ["replay=1", *RECIPE[:-1], "schedule=constant"])
def test_what_models_are_fine_tuned_with_moves_them_and_no_base(word: str) -> None:
    found = moved(f"model.finetune.{word}")
    assert {"target", "retain", "unlearned"} <= found
    assert not {"base", "proposed", "filtered"} & found


@pytest.mark.parametrize("word", [*RECIPE[:-1], "schedule=linear"])
def test_what_unlearning_trains_with_moves_it_and_no_model_before(word: str) -> None:
    found = moved(f"optim.{word}")
    assert {"unlearned", "predict/unlearned", "score/unlearned/answers", "results", "report"} == found
