"""Hidden states by layer, in every architecture: the last layer answers as the model, patching is exact."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, LlamaConfig, PhiConfig, Qwen2Config

from meow_lightning.data.collate import collate
from meow_lightning.models.layer_states import decoded_states, layer_count, patched_logps, recorded_states
from meow_lightning.models.logprobs import scored_logits
from meow_lightning.types import Encoded

SIZES: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "max_position_embeddings": 32, "pad_token_id": 0,
}  # fmt: skip
CONFIGS = {
    "gpt2": GPT2Config(vocab_size=40, n_positions=32, n_embd=16, n_layer=3, n_head=2),
    "phi": PhiConfig(**SIZES),
    "llama": LlamaConfig(**SIZES, num_key_value_heads=1, tie_word_embeddings=True),
    "gemma2": Gemma2Config(**SIZES, num_key_value_heads=1, head_dim=8, final_logit_softcapping=3.0, sliding_window=4),
    "qwen2": Qwen2Config(**SIZES, num_key_value_heads=2),
}
ROWS = [Encoded((5, 6, 7, 8, 9), 3), Encoded((5, 9, 3), 2), Encoded((7, 8, 9, 10, 11, 12, 13), 4)]


def model(family: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(CONFIGS[family], attn_implementation="eager").eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return made


@pytest.mark.parametrize("family", CONFIGS)
@torch.no_grad()
def test_the_last_layer_decodes_to_the_models_own_logits(family: str) -> None:
    made, rows = model(family), collate(ROWS, pad_id=0)
    logits, _ = scored_logits(made, rows)
    states = recorded_states(made, rows)
    assert states.shape == (layer_count(made), sum(row.scored for row in ROWS), 16) == (3, 6, 16)
    decoded = decoded_states(made, states)
    torch.testing.assert_close(decoded[:, -1], logits, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(decoded[:, 0], logits, atol=1e-2)


@pytest.mark.parametrize("family", CONFIGS)
@torch.no_grad()
def test_a_model_patched_with_its_own_states_stays_the_same(family: str) -> None:
    made, rows = model(family), collate(ROWS, pad_id=0)
    whole = patched_logps(made, rows, layer=None, states_ND=None)
    for layer, states in enumerate(recorded_states(made, rows)):
        torch.testing.assert_close(patched_logps(made, rows, layer=layer, states_ND=states), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", CONFIGS)
@torch.no_grad()
def test_the_last_layer_of_another_model_brings_its_answers_along(family: str) -> None:
    made, other, rows = model(family), model(family, seed=1), collate(ROWS, pad_id=0)
    tail = [name for name, _ in other.named_parameters() if "layers." not in name and "h." not in name]
    weights = made.state_dict()
    other.load_state_dict({name: weights[name] for name in tail}, strict=False)  # the same embeddings, norm and head
    states = recorded_states(other, rows)
    own = patched_logps(other, rows, layer=None, states_ND=None)
    whole = patched_logps(made, rows, layer=None, states_ND=None)
    torch.testing.assert_close(patched_logps(made, rows, layer=2, states_ND=states[2]), own, atol=1e-4, rtol=0)
    assert not torch.allclose(patched_logps(made, rows, layer=0, states_ND=states[0]), whole, atol=1e-3)


@pytest.mark.parametrize("family", CONFIGS)
@torch.no_grad()
def test_neither_padding_nor_the_batch_changes_a_row(family: str) -> None:
    made, other = model(family), model(family, seed=1)
    together = collate(ROWS, pad_id=0)
    states = recorded_states(other, together)
    patched = patched_logps(made, together, layer=1, states_ND=states[1])
    ends = list(itertools.accumulate((row.scored for row in ROWS), initial=0))
    for row, (start, end) in zip(ROWS, itertools.pairwise(ends), strict=True):
        alone = collate([row], pad_id=0)
        own = recorded_states(other, alone)
        torch.testing.assert_close(own, states[:, start:end], atol=1e-4, rtol=1e-4)
        lone = patched_logps(made, alone, layer=1, states_ND=own[1])
        torch.testing.assert_close(lone, patched[start:end], atol=1e-4, rtol=1e-4)


def test_a_model_without_decoder_layers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Linear has no list of decoder layers$"):
        layer_count(torch.nn.Linear(1, 1))
