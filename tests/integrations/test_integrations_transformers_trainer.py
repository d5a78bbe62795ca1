"""A trainer of transformers computes the loss of our own training, however the global batch is split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.library import dataset, language_model
from transformers import TrainingArguments

import meow_lightning as meow
from meow_lightning.errors import UserError
from meow_lightning.integrations import UnlearningTrainer


def arguments(folder: Path, *, micro: int, accumulation: int, **changes: Any) -> TrainingArguments:
    plain = {
        "num_train_epochs": 1, "learning_rate": 1e-3, "max_grad_norm": 1.0, "weight_decay": 0.0,
        "lr_scheduler_type": "constant", "logging_steps": 1, "report_to": "none", "save_strategy": "no",
        "use_cpu": True, "disable_tqdm": True, "seed": 0, "optim": "adamw_torch",
    }  # fmt: skip
    return TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=micro, gradient_accumulation_steps=accumulation,
        **plain | changes,
    )  # fmt: skip


def losses(trainer: UnlearningTrainer) -> list[float]:
    return [point["loss"] for point in trainer.state.log_history if "loss" in point]


@pytest.mark.parametrize("method", ["npo", "kl", "simnpo", "undial", "idk"])
@pytest.mark.parametrize(("micro", "accumulation"), [(4, 1), (2, 2), (1, 4)])
def test_every_step_has_the_loss_of_our_own_training(
    tmp_path: Path, method: str, micro: int, accumulation: int
) -> None:
    facts = dataset()
    ours: list[dict[str, float]] = []
    model = language_model(facts, precision="64-true")
    plain = ["optim.warmup=0", "optim.schedule=constant", "optim.weight_decay=0", "callbacks.log_every=1"]
    done = meow.unlearn(
        model, facts, method=method, lr=1e-3, epochs=1, global_batch_size=4, options=plain, log=ours.append
    )
    trained = language_model(facts, precision="64-true")
    trainer = UnlearningTrainer(trained, facts, method, arguments(tmp_path, micro=micro, accumulation=accumulation))
    trainer.train()
    assert losses(trainer) == pytest.approx([point["loss"] for point in ours], rel=1e-3, abs=2e-4)
    theirs, expected = trained.model.state_dict(), done.model.state_dict()
    assert len(ours) > 1
    for name, weight in expected.items():
        torch.testing.assert_close(theirs[name], weight, rtol=1e-5, atol=1e-7)


def test_a_method_with_state_sees_every_step_and_may_end_the_training(tmp_path: Path) -> None:
    facts = dataset()

    class Bounded(type(meow.methods.GradAscent())):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[dict[str, float]] = []

        def on_step_end(self, values: Any) -> None:
            self.seen.append(dict(values))

        @property
        def done(self) -> bool:
            return len(self.seen) == 3

    method = Bounded()
    trainer = UnlearningTrainer(
        language_model(facts), facts, method, arguments(tmp_path, micro=1, accumulation=2, num_train_epochs=5)
    )
    trainer.train()
    assert trainer.state.global_step == 3
    assert [each["forget"] for each in method.seen] == pytest.approx([-loss for loss in losses(trainer)], abs=1e-3)


def test_a_method_that_transforms_the_trained_weights_does_so_once(tmp_path: Path) -> None:
    facts = dataset()
    model = language_model(facts)
    before = {name: weight.clone() for name, weight in model.model.state_dict().items()}
    trainer = UnlearningTrainer(
        model, facts, meow.methods.TaskVector(), arguments(tmp_path, micro=2, accumulation=1, learning_rate=0.0)
    )
    trainer.train()
    for name, weight in model.model.state_dict().items():
        torch.testing.assert_close(weight, before[name])


@pytest.mark.parametrize(
    ("option", "changes"),
    [("label_smoothing_factor", {"label_smoothing_factor": 0.1}), ("devices", {})],
)
def test_what_would_change_the_loss_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, changes: dict[str, Any]
) -> None:
    facts = dataset()
    args = arguments(tmp_path, micro=2, accumulation=1, **changes)
    if option == "devices":
        monkeypatch.setattr(TrainingArguments, "world_size", 2)
    with pytest.raises(UserError, match="label_smoothing_factor" if changes else "one process on one device"):
        UnlearningTrainer(language_model(facts), facts, "npo", args)


def test_a_method_with_two_models_at_inference_is_refused(tmp_path: Path) -> None:
    facts = dataset()
    with pytest.raises(UserError, match=r"^Uld answers through a model of its own, .*; use meow\.unlearn"):
        UnlearningTrainer(language_model(facts), facts, "uld", arguments(tmp_path, micro=2, accumulation=1))


def test_checkpoints_of_transformers_cannot_be_resumed(tmp_path: Path) -> None:
    facts = dataset()
    trainer = UnlearningTrainer(language_model(facts), facts, "npo", arguments(tmp_path, micro=2, accumulation=1))
    with pytest.raises(UserError, match="resume_from_checkpoint"):
        trainer.train(resume_from_checkpoint=True)
