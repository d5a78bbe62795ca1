from __future__ import annotations

import pytest

from meow_lightning.config.recipes import recipe_for_rows

TOFU = {
    "global_batch_size": 32, "epochs": 5, "lr": 1e-5, "replay": 0, "steps": 400, "epoch_steps": 4, "known": 0.05
}  # fmt: skip


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
    made = recipe_for_rows(TOFU, rows)
    assert (made["global_batch_size"], made["epochs"]) == (batch, epochs)
    assert made.get("until") == ({"loss": 0.05, "epochs": 5} if until else None)
    assert not {"steps", "epoch_steps", "known"} & made.keys()


def test_replayed_rows_count_as_rows_of_an_epoch() -> None:
    assert recipe_for_rows({**TOFU, "replay": 8}, 24)["global_batch_size"] == 8


def test_no_least_steps_leave_batch_and_epochs_as_they_are_reported() -> None:
    made = recipe_for_rows({**TOFU, "steps": 0}, 24)
    assert (made["global_batch_size"], made["epochs"], "until" in made) == (32, 5, False)
    assert recipe_for_rows({**TOFU, "epochs": 0}, 24)["epochs"] == 0  # whoever says so wants the base


def test_without_a_mark_of_what_is_known_all_planned_steps_are_made() -> None:
    assert "until" not in recipe_for_rows({**TOFU, "known": None}, 24)
