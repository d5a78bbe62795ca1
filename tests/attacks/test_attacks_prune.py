"""Pruning as an attack: options, calibration rows, and how many units of a layer are kept."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers.models import tiny_llama

from meow_lightning.attacks.base import AttackContext
from meow_lightning.attacks.prune import Prune, PruneAndRecover
from meow_lightning.data.fictional import Fictional
from meow_lightning.errors import UserError
from meow_lightning.types import Definition, Encoded

DATASET = Fictional(split="forget10", authors=20, candidates=4, phrasings=1, retain_eval=4, seed=0)
OPTIONS: dict[str, Any] = {
    "share": 0.25, "parts": ["mlp", "attention"], "importance": "first_order", "calibration": 3, "seed": 0,
}  # fmt: skip
DRAW = torch.Generator().manual_seed(0)
ROWS = [Encoded(tuple(torch.randint(2, 49, (9,), generator=DRAW).tolist()), 4) for _ in range(6)]


def context(
    notes: list[str] | None = None, numbers: dict[str, tuple[float, float]] | None = None, *, train: Any = None
) -> AttackContext:
    notes, numbers = [] if notes is None else notes, {} if numbers is None else numbers

    def record(definition: Definition, before: float, after: float) -> None:
        numbers[definition.name] = (before, after)

    return AttackContext(warn=notes.append, train=train, rows=lambda: ROWS, record=record)


def model() -> Any:
    return tiny_llama(seed=0, vocab_size=50, num_attention_heads=8, num_key_value_heads=4)


def test_the_rows_are_the_retain_set() -> None:
    assert Prune(**OPTIONS).rows(DATASET, 1) == DATASET.facts("retain")
    assert PruneAndRecover(**OPTIONS).rows(DATASET, 1) == DATASET.facts("retain")


def test_importance_without_facts_to_keep_is_random() -> None:
    class Empty:
        name = "mine"

        def facts(self, split: str) -> list[Any]:
            return []

    with pytest.raises(UserError, match=r"^attacks\.importance=first_order is invalid: expected random"):
        Prune(**OPTIONS).rows(Empty(), 0)  # type: ignore[arg-type]
    assert Prune(**OPTIONS | {"importance": "random"}).rows(Empty(), 0) == []  # type: ignore[arg-type]


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


def test_size_and_latency_are_recorded_before_and_after() -> None:
    numbers: dict[str, tuple[float, float]] = {}
    Prune(**OPTIONS | {"parts": ["mlp"]}).transform_model(model(), context(numbers=numbers))
    whole = model().num_parameters()
    assert numbers["model/parameters"] == (whole, whole - 2 * 16 * 3 * 32)  # of two layers 16 neurons, 32 wide
    assert min(numbers["model/latency"]) > 0


def logits(model: Any, *ids: int) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits


def hiding(model: Any) -> tuple[Any, Any]:
    """A model, and the same with one neuron that only token 49 switches on, and that then changes the answer."""
    with torch.no_grad():
        model.get_input_embeddings().weight[:, -1] = 0.0
        model.get_input_embeddings().weight[49, -1] = 1.0
        first = model.model.layers[0]
        first.self_attn.o_proj.weight[-1] = 0.0  # no other token sees that dimension
        first.mlp.up_proj.weight[7] = 0.0
        first.mlp.down_proj.weight[:, 7] = 0.0
        before = copy.deepcopy(model)
        first.mlp.up_proj.weight[7, -1] = 5.0
        first.mlp.gate_proj.weight[7] = 1.0
        first.mlp.down_proj.weight[:, 7] = 1.0
    return before, model


@pytest.mark.parametrize("importance", ["first_order", "second_order"])
def test_what_a_neuron_hid_is_back_after_pruning_and_a_model_without_it_answers_as_before(importance: str) -> None:
    """Retain rows never switch it on, so that it has no importance."""
    before, hidden = hiding(model())
    assert (logits(hidden, 5, 49) - logits(before, 5, 49)).abs().max() > 0.1
    assert torch.equal(logits(hidden, 5, 6), logits(before, 5, 6))
    options = OPTIONS | {"share": 1 / 64, "parts": ["mlp"], "importance": importance}
    with torch.no_grad():
        for each in (before, hidden):  # what the second layer loses instead
            each.model.layers[1].mlp.down_proj.weight[:, 3] = 0.0
    for each in (before, hidden):
        pruned = Prune(**options).transform_model(each, context())
        assert torch.allclose(logits(pruned, 5, 49), logits(before, 5, 49), atol=1e-6)


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

    numbers: dict[str, tuple[float, float]] = {}
    recovered = PruneAndRecover(**OPTIONS).transform_model(model(), context(numbers=numbers, train=train))
    (pruned,) = given
    assert recovered == "trained"
    assert numbers == {"model/parameters": (model().num_parameters(), pruned.num_parameters())}
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
