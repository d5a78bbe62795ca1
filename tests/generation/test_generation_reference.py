from __future__ import annotations

import pytest
from helpers.models import tiny_llama
from transformers import GenerationConfig, LlamaForCausalLM

from meow_lightning.generation.batching import continue_alone
from meow_lightning.generation.reference import reference_continuation


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    made = tiny_llama(
        seed=4, num_attention_heads=2, vocab_size=40, max_position_embeddings=64, initializer_range=0.3, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    made.generation_config = GenerationConfig(do_sample=True, temperature=9.0, repetition_penalty=5.0, eos_token_id=7)
    return made


def test_generation_settings_of_a_checkpoint_are_ignored(model: LlamaForCausalLM) -> None:
    ends = frozenset({2, 9, 30})
    prompts = [[1, number, 5 + number % 3] for number in range(3, 23)]
    found = [reference_continuation(model, each, budget=12, end_ids=ends, pad_id=0) for each in prompts]
    assert found == [continue_alone(model, each, budget=12, end_ids=ends, pad_id=0) for each in prompts]
    assert {each.stop for each in found} == {"end", "length"}  # or the test would not see one of them
    assert all(each.end in ends for each in found if each.stop == "end")


def test_without_an_end_token_the_budget_ends_it(model: LlamaForCausalLM) -> None:
    said = reference_continuation(model, [1, 4], budget=5, end_ids=frozenset(), pad_id=0)
    assert (len(said.ids), said.stop) == (5, "length")
