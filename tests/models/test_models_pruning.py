"""Structured pruning: units by architecture, importance worked out by hand, and models that equal zeroed ones."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import transformers
from helpers.models import tiny_llama, tiny_sizes
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedModel

from meow_lightning.data.collate import collate
from meow_lightning.errors import UserError
from meow_lightning.models.layers import decoder_layers
from meow_lightning.models.logprobs import answer_nll
from meow_lightning.models.pruning import (
    Part,
    Units,
    best_units,
    find_units,
    importances,
    nearest_count,
    positions,
    without_units,
)
from meow_lightning.types import Encoded, TokenBatch

ENDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "vocab_size": 50}
GROUPED = tiny_sizes(num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=64, **ENDS)
WIDE = {**GROUPED, "head_dim": 8}  # heads wider than the model's width over their number
CONFIGS = {
    "Llama": GROUPED, "Mistral": GROUPED, "Qwen2": GROUPED, "Qwen3": WIDE, "Gemma": WIDE, "Gemma2": WIDE,
    "Gemma3Text": WIDE, "Phi": GROUPED, "Phi3": GROUPED, "GPTNeoX": tiny_sizes(**ENDS),
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **ENDS},
}  # fmt: skip
FIXED_HEADS = ("GPT2", "GPTNeoX")


def family(name: str) -> PreTrainedModel:
    """A model of an architecture with random weights, biases and norms."""
    config = getattr(transformers, f"{name}Config")(**CONFIGS[name])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        for weight in model.parameters():
            weight.data += 0.1 * torch.randn_like(weight)
    return model.eval()


def drawn(model: PreTrainedModel, units: dict[Part, Units], share: float) -> dict[Part, list[torch.Tensor]]:
    """Random units to keep, others in every layer."""
    scores = importances(model, [], units, kind="random", seed=3)
    counts = {part: nearest_count(model.config, units, part, round(share * each.count)) for part, each in units.items()}
    return {part: [best_units(layer, counts[part]) for layer in scores[part]] for part in units}


def zeroed(model: PreTrainedModel, units: dict[Part, Units], kept: dict[Part, list[torch.Tensor]]) -> PreTrainedModel:
    """The whole model with zeros where the units that are not kept are read."""
    changed = copy.deepcopy(model)
    for part, each in units.items():
        out = each.cuts[-1]
        for layer, numbers in zip(decoder_layers(changed), kept[part], strict=True):
            module = layer.get_submodule(out.module)
            inputs_last = isinstance(module, torch.nn.Linear)
            gone = torch.ones(each.count * out.blocks[0], dtype=torch.bool)
            gone[positions(numbers, count=each.count, blocks=out.blocks)] = False
            module.weight.data[(slice(None), gone) if inputs_last else gone] = 0.0
    return changed


def logits(model: PreTrainedModel) -> torch.Tensor:
    ids = torch.randint(2, 50, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model(ids).logits


@pytest.mark.parametrize("name", CONFIGS)
def test_a_pruned_model_equals_the_whole_one_with_zeroed_units_and_loads_like_any_other(
    name: str, tmp_path: Path
) -> None:
    model = family(name)
    units = find_units(model)
    assert set(units) == ({"mlp"} if name in FIXED_HEADS else {"mlp", "attention"})
    kept = drawn(model, units, 0.5)
    assert all(0 < len(layer) < units[part].count for part in kept for layer in kept[part])
    expected = logits(zeroed(model, units, kept))
    assert (expected - logits(model)).abs().max() > 0.1
    smaller = without_units(model, units, kept)
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert (smaller.get_input_embeddings().weight is smaller.get_output_embeddings().weight) == tied
    assert torch.allclose(logits(smaller), expected, atol=1e-5)
    smaller.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(loaded), logits(smaller))
    removed = {
        part: len(kept[part]) * (each.count - len(kept[part][0])) * entries_per_unit(model, each)
        for part, each in units.items()
    }
    assert loaded.num_parameters() == model.num_parameters() - sum(removed.values())
    assert loaded.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=4, do_sample=False, eos_token_id=49).shape[1] > 3


def entries_per_unit(model: PreTrainedModel, units: Units) -> int:
    """Weights and biases that go with a unit: everything of its matrices, over the number of units."""
    layer = decoder_layers(model)[0]
    modules = [(layer.get_submodule(cut.module), cut.inputs) for cut in units.cuts]
    whole = sum(
        module.weight.numel() + (0 if inputs or module.bias is None else module.bias.numel())
        for module, inputs in modules
    )
    assert whole % units.count == 0
    return whole // units.count


@pytest.mark.parametrize("name", ["Llama", "GPT2"])
def test_without_pruning_nothing_changes(name: str) -> None:
    model = family(name)
    units = find_units(model)
    kept = drawn(model, units, 1.0)
    same = without_units(model, units, kept)
    before = model.state_dict()
    assert before.keys() == same.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in same.state_dict().items())
    assert torch.equal(logits(same), logits(model))


def test_the_model_given_stays_as_it_is() -> None:
    model = family("Llama")
    units, before = find_units(model), copy.deepcopy(model.state_dict())
    importances(model, [row(2)], units, kind="first_order", seed=0)
    without_units(model, units, drawn(model, units, 0.5))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.config.intermediate_size == 64
    assert all(weight.requires_grad for weight in model.parameters())


def test_positions_follow_the_matrices_that_a_module_joins() -> None:
    kept = torch.tensor([0, 2])
    assert positions(kept, count=3, blocks=(1,)).tolist() == [0, 2]
    assert positions(kept, count=3, blocks=(1, 1)).tolist() == [0, 2, 3, 5]
    # three groups of two query heads and a key and a value head, one wide
    assert positions(kept, count=3, blocks=(2, 1, 1)).tolist() == [0, 1, 4, 5, 6, 8, 9, 11]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.data())
def test_the_best_units_are_in_order_and_none_left_out_is_better(scores: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(scores)))
    kept = best_units(torch.tensor(scores, dtype=torch.float64), count).tolist()
    assert kept == sorted(set(kept))
    assert len(kept) == count
    left = [place for place in range(len(scores)) if place not in kept]
    assert all(
        (scores[one], -one) > (scores[other], -other) for one in kept for other in left
    )  # of equal scores the first


def row(seed: int) -> TokenBatch:
    ids = torch.randint(2, 50, (8,), generator=torch.Generator().manual_seed(seed)).tolist()
    return collate([Encoded(tuple(ids), 3)], pad_id=0)


def hand_model() -> PreTrainedModel:
    """A Llama of one layer with two feed-forward neurons."""
    return tiny_llama(
        seed=0, vocab_size=50, num_hidden_layers=1, intermediate_size=2, hidden_size=8, num_attention_heads=2
    ).double()  # fmt: skip


@pytest.mark.parametrize("kind", ["first_order", "second_order"])
def test_importance_is_the_sum_over_all_weights_of_a_unit(kind: str) -> None:
    model, rows = hand_model(), [row(1), row(2)]
    gradients = []
    for each in rows:
        model.zero_grad()
        (answer_nll(model, each).sum() / 5).backward()
        gradients.append({name: weight.grad.clone() for name, weight in model.named_parameters()})
    expected = []
    for unit in (0, 1):
        total = 0.0
        for name in ("gate_proj", "up_proj", "down_proj"):
            key = f"model.layers.0.mlp.{name}.weight"
            weight = model.get_parameter(key)
            entries = (unit, slice(None)) if name != "down_proj" else (slice(None), unit)
            for place in range(8):
                w = float(weight.detach()[entries][place])
                g1, g2 = (float(each[key][entries][place]) for each in gradients)
                total += abs((g1 + g2) / 2 * w) if kind == "first_order" else (g1**2 + g2**2) / 2 * w**2 / 2
        expected.append(total)
    scores = importances(model, rows, find_units(model), kind=kind, seed=0)  # type: ignore[arg-type]
    assert scores["mlp"].tolist() == [pytest.approx(expected, rel=1e-9)]
    assert scores["attention"].shape == (1, 2)


def test_a_second_order_score_takes_squares_row_by_row() -> None:
    """Opposite gradients of two rows cancel in the first order alone."""
    model, units = hand_model(), find_units(hand_model())
    both = importances(model, [row(1), row(2)], units, kind="second_order", seed=0)
    alone = [importances(model, [row(seed)], units, kind="second_order", seed=0) for seed in (1, 2)]
    for part in units:
        assert torch.allclose(both[part], (alone[0][part] + alone[1][part]) / 2, rtol=1e-9)


@pytest.mark.parametrize("kind", ["first_order", "second_order"])
def test_dead_units_are_removed_first_and_the_model_answers_as_before(kind: str) -> None:
    model = family("Phi")
    dead = {0: [3, 7], 1: [1, 60]}
    for number, layer in enumerate(decoder_layers(model)):
        layer.mlp.fc2.weight.data[:, dead[number]] = 0.0
    units = {"mlp": find_units(model)["mlp"]}
    scores = importances(model, [row(seed) for seed in range(3)], units, kind=kind, seed=0)["mlp"]  # type: ignore[arg-type]
    kept = [best_units(layer, 62) for layer in scores]
    for number, layer in enumerate(kept):
        assert scores[number][dead[number]].tolist() == [0.0, 0.0]
        assert set(range(64)) - set(layer.tolist()) == set(dead[number])
    assert torch.allclose(logits(without_units(model, units, {"mlp": kept})), logits(model), atol=1e-5)


def test_random_scores_follow_the_seed_and_read_no_row() -> None:
    model = family("Llama")
    units = find_units(model)
    one, same, other = (importances(model, [], units, kind="random", seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(one[part], same[part]) for part in units)
    assert all(not torch.equal(one[part], other[part]) for part in units)
    assert not torch.equal(one["mlp"][0], one["mlp"][1])


def test_the_number_of_heads_of_a_llama_divides_its_width() -> None:
    llama, qwen = family("Llama"), family("Qwen2")  # 32 wide, four groups of two heads
    for model, allowed in ((llama, {1: 1, 2: 2, 3: 4, 4: 4}), (qwen, {3: 3})):
        units = find_units(model)
        assert {least: nearest_count(model.config, units, "attention", least) for least in allowed} == allowed
        assert nearest_count(model.config, units, "mlp", 37) == 37


def test_unknown_architectures_and_weights_beside_the_config_are_named() -> None:
    sizes = {**GROUPED, "num_local_experts": 2, "num_experts_per_tok": 1}
    experts = AutoModelForCausalLM.from_config(transformers.MixtralConfig(**sizes))
    with pytest.raises(UserError, match="MixtralForCausalLM cannot be pruned: its layers are not those of Llama"):
        find_units(experts)
    normed = AutoModelForCausalLM.from_config(transformers.Olmo2Config(**GROUPED))  # norms as wide as all heads
    units = find_units(normed)
    with pytest.raises(UserError, match="olmo2 model cannot be pruned: its config does not describe"):
        without_units(normed, units, drawn(normed, units, 0.5))
