"""Quantisation: the numbers of rounding to nearest, worked out by hand, and which weights of a model it rounds."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from meow_lightning.attacks.base import AttackContext
from meow_lightning.attacks.quantise import Quantise, rounded_to_nearest
from meow_lightning.errors import UserError
from meow_lightning.models.tiny import llama

ALONE = AttackContext(warn=lambda text: None, train=lambda model: model)


def tiny(*, tied: bool) -> torch.nn.Module:
    torch.manual_seed(0)
    made = llama(vocab_size=11, hidden_size=8, layers=1, heads=2, intermediate_size=12, context=8, end_id=0, pad_id=0)
    assert made.get_output_embeddings().weight is made.get_input_embeddings().weight or not tied
    return made


def changed(model: torch.nn.Module, **options) -> set[str]:
    """Names of the weights that an attack with 3 bits changes."""
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    given = {"bits": 3, "group": None, "embeddings": False, "head": False, **options}
    after = Quantise(**given).transform_model(model, ALONE)
    return {name for name, weight in after.named_parameters() if not torch.equal(weight, before[name])}


def test_a_row_is_rounded_to_multiples_of_its_largest_weight_over_m() -> None:
    # 3 bits: m = 3. Row 1: s = 0.6 / 3 = 0.2; 0.29 / 0.2 = 1.45 -> 1. Row 2: s = 3 / 3 = 1; 0.5 -> 0 and 1.5 -> 2.
    weight = torch.tensor([[0.6, 0.29, -0.31, 0.0], [-3.0, 0.5, 1.5, 2.4]])
    rounded = rounded_to_nearest(weight, bits=3, group=None)
    torch.testing.assert_close(rounded, torch.tensor([[0.6, 0.2, -0.4, 0.0], [-3.0, 0.0, 2.0, 2.0]]))


def test_every_group_along_the_input_has_its_own_scale_and_the_last_may_be_smaller() -> None:
    # 4 bits: m = 7. Groups (7, 3.4), (0.7, 0.32) and (0.1,) with s = 1, 0.1 and 0.1 / 7.
    weight = torch.tensor([[7.0, 3.4, 0.7, 0.32, 0.1]])
    rounded = rounded_to_nearest(weight, bits=4, group=2)
    torch.testing.assert_close(rounded, torch.tensor([[7.0, 3.0, 0.7, 0.3, 0.1]]))
    # One scale for the row, s = 1, leaves nothing of the small ones but 0.7.
    whole = rounded_to_nearest(weight, bits=4, group=None)
    torch.testing.assert_close(whole, torch.tensor([[7.0, 3.0, 1.0, 0.0, 0.0]]))
    assert torch.equal(rounded_to_nearest(weight, bits=4, group=128), whole)


def test_zeros_stay_zero_and_eight_bits_lose_at_most_half_a_step() -> None:
    assert torch.equal(rounded_to_nearest(torch.zeros(2, 3), bits=4, group=2), torch.zeros(2, 3))
    weight = torch.linspace(-1, 1, 1000).view(2, 500)
    error = (rounded_to_nearest(weight, bits=8, group=None) - weight).abs().amax()
    assert 0.4 / 127 < error <= 0.5 / 127 + 1e-6


def test_the_type_of_the_weights_stays() -> None:
    assert rounded_to_nearest(torch.ones(2, 2, dtype=torch.bfloat16), bits=4, group=None).dtype == torch.bfloat16


def test_linear_layers_are_rounded_and_embeddings_and_head_on_request() -> None:
    layers = {name for name, _ in tiny(tied=False).named_parameters() if "proj" in name}
    assert len(layers) == 7
    assert changed(tiny(tied=False)) == layers
    embeddings, head = "model.embed_tokens.weight", "lm_head.weight"
    made = tiny(tied=False)
    tied = made.get_output_embeddings().weight is made.get_input_embeddings().weight
    shared = {embeddings} if tied else {head}
    assert changed(tiny(tied=False), embeddings=True) == layers | {embeddings}
    assert changed(tiny(tied=False), head=True) == layers | shared


def test_layers_that_store_inputs_first_are_grouped_along_the_input_too() -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_positions=8, n_embd=4, n_layer=1, n_head=2))
    layer = model.transformer.h[0].mlp.c_fc
    before = layer.weight.detach().clone()
    assert "transformer.wte.weight" not in changed(model)
    assert torch.equal(layer.weight, rounded_to_nearest(before.T, bits=3, group=None).T)


@pytest.mark.parametrize(("options", "named"), [({"bits": 1}, "attacks.bits=1"), ({"group": 0}, "attacks.group=0")])
def test_a_number_out_of_range_is_named(options: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        Quantise(**{"bits": 4, "group": None, "embeddings": False, "head": False, **options})
