from __future__ import annotations

from typing import Any

import pytest

from meow_lightning.config.recipes import recipe_for_rows
from meow_lightning.config.training_options import Finetune

TOFU = {
    "global_batch_size": 32, "epochs": 5, "lr": 1e-5, "replay": 0, "steps": 400, "epoch_steps": 4, "known": 0.05,
    "also": [], "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01, "max_grad_norm": 1.0, "warmup": "epoch",
    "schedule": "linear",
}  # fmt: skip


def recipe(rows: int, **changes: object) -> dict[str, Any]:
    """TOFU's recipe, with some changes, for a number of rows."""
    return recipe_for_rows(Finetune.model_validate({**TOFU, **changes}), rows)


@pytest.mark.parametrize(
    ("rows", "batch", "epochs", "until"),
    [
        (4000, 32, 5, False),  # TOFU's: 125 steps an epoch, 625 in all
        (2560, 32, 5, False),  # 80 steps an epoch are just 400 in all
        (2559, 32, 5, False),  # the last step is not full, but there are 80 all the same
        (2528, 32, 6, True),  # 79 steps an epoch: 5 epochs are 395, 6 are 474
        (24, 6, 100, True),  # 4 steps an epoch: 24 rows at a batch of 32 would be one
        (25, 6, 80, True),  # 25 // 4 = 6 rows a step: 5 steps an epoch
        (3, 1, 134, True),  # 3 steps an epoch: 134 * 3 = 402
        (1, 1, 400, True),
    ],
)
def test_a_recipe_goes_by_the_number_of_rows_by_hand(rows: int, batch: int, epochs: int, until: bool) -> None:
    made = recipe(rows)
    assert (made["global_batch_size"], made["epochs"]) == (batch, epochs)
    assert made.get("until") == ({"loss": 0.05, "epochs": 5} if until else None)
    assert not {"also", "steps", "epoch_steps", "known"} & made.keys()


def test_replayed_rows_count_as_rows_of_an_epoch() -> None:
    assert recipe(24, replay=8)["global_batch_size"] == 8


def test_no_least_steps_leave_batch_and_epochs_as_they_are_reported() -> None:
    made = recipe(24, steps=0)
    assert (made["global_batch_size"], made["epochs"], "until" in made) == (32, 5, False)
    assert recipe(24, epochs=0)["epochs"] == 0  # whoever says so wants the base


def test_without_a_mark_of_what_is_known_all_planned_steps_are_made() -> None:
    assert "until" not in recipe(24, known=None)
