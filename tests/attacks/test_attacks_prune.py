"""Pruning as an attack: options, calibration rows, and how many units of a layer are kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.models import tiny_llama

from meow_lightning.attacks.base import AttackContext
from meow_lightning.attacks.prune import Prune, PruneAndRecover
from meow_lightning.data.fictional import Fictional
from meow_lightning.errors import UserError
from meow_lightning.types import Encoded

DATASET = Fictional(split="forget10", authors=20, candidates=4, phrasings=1, retain_eval=4, seed=0)
OPTIONS: dict[str, Any] = {
    "share": 0.25, "parts": ["mlp", "attention"], "importance": "first_order", "calibration": 3, "seed": 0,
}  # fmt: skip
ROWS = [Encoded(tuple(torch.randint(2, 50, (9,)).tolist()), 4) for _ in range(6)]


def context(notes: list[str] | None = None, *, train: Any = None) -> AttackContext:
    notes = [] if notes is None else notes
    return AttackContext(warn=notes.append, train=train, rows=lambda: ROWS)


def model() -> Any:
    return tiny_llama(seed=0, vocab_size=50, num_attention_heads=8, num_key_value_heads=4)


def test_the_rows_are_the_retain_set() -> None:
    assert Prune(**OPTIONS).rows(DATASET, 1) == DATASET.facts("retain")
    assert PruneAndRecover(**OPTIONS).rows(DATASET, 1) == DATASET.facts("retain")


@pytest.mark.parametrize(
    ("share", "parts", "neurons", "groups"),
    [
        (0.25, ["mlp"], 48, 4), (0.25, ["mlp", "attention"], 48, 4), (0.5, ["attention"], 64, 2),
        (0.01, ["mlp"], 64, 4), (0.99, ["mlp", "attention"], 1, 1),
    ],
)  # fmt: skip
def test_the_share_is_rounded_down_and_heads_stay_where_no_config_has_fewer(
    share: float, parts: list[str], neurons: int, groups: int
) -> None:
    notes: list[str] = []
    pruned = Prune(**OPTIONS | {"share": share, "parts": parts}).transform_model(model(), context(notes))
    config = pruned.config
    assert (config.intermediate_size, config.num_key_value_heads) == (neurons, groups)
    assert config.num_attention_heads == 2 * groups
    assert len(notes) == len(parts)
    assert any(f"{neurons} of 64" in note for note in notes) == ("mlp" in parts)


def test_pruning_nothing_changes_nothing() -> None:
    before, after = model(), Prune(**OPTIONS | {"share": 0.0}).transform_model(model(), context())
    assert all(torch.equal(value, after.state_dict()[key]) for key, value in before.state_dict().items())


def test_the_same_options_give_the_same_model_and_another_seed_other_rows_and_draws() -> None:
    def weights(**changes: Any) -> torch.Tensor:
        pruned = Prune(**OPTIONS | changes).transform_model(model(), context())
        return pruned.get_parameter("model.layers.0.mlp.down_proj.weight")

    for importance in ("first_order", "second_order", "random"):
        assert torch.equal(weights(importance=importance), weights(importance=importance))
        assert not torch.equal(weights(importance=importance), weights(importance=importance, seed=2))


def test_recovery_trains_the_pruned_model() -> None:
    given = []

    def train(pruned: Any) -> Any:
        given.append(pruned)
        return "trained"

    assert PruneAndRecover(**OPTIONS).transform_model(model(), context(train=train)) == "trained"
    (pruned,) = given
    expected = Prune(**OPTIONS).transform_model(model(), context()).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in pruned.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 1.0}, "attacks.share=1.0"),
        ({"share": -0.1}, "attacks.share=-0.1"),
        ({"parts": []}, "attacks.parts="),
        ({"parts": ["mpl"]}, "attacks.parts=mpl .*Did you mean mlp"),
        ({"importance": "first"}, "attacks.importance=first .*Did you mean first_order"),
        ({"calibration": 0}, "attacks.calibration=0"),
    ],
)
def test_options_out_of_range_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PruneAndRecover(**OPTIONS | changes)
