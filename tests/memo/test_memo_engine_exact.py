"""The engine against plain generation, on models that know their texts: windows that share nearly everything."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers.models import tiny_llama, tiny_sizes
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from meow_lightning.errors import NotFiniteError
from meow_lightning.generation.capabilities import dtype_of, supports_padding, supports_prefix_sharing
from meow_lightning.generation.engine import Continuation, continue_greedily
from meow_lightning.generation.reference import reference_continuation

END_ID, PAD_ID, BUDGET, VOCABULARY = 2, 0, 20, 96
SIZES = tiny_sizes(
    hidden_size=64, intermediate_size=128, vocab_size=VOCABULARY, max_position_embeddings=128, bos_token_id=1,
    eos_token_id=END_ID, pad_token_id=PAD_ID,
)  # fmt: skip
FAMILIES: dict[str, Any] = {
    "llama": lambda: tiny_llama(num_key_value_heads=4, **SIZES),
    "phi": lambda: PhiForCausalLM(PhiConfig(**SIZES)),
    "grouped_tied": lambda: tiny_llama(  # the proportions of SmolLM2-135M
        **SIZES | {"hidden_size": 72, "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True}
    ),
    "grouped": lambda: Qwen2ForCausalLM(Qwen2Config(num_key_value_heads=2, **SIZES)),
}


def texts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(16, 48, (12,), generator=generator).tolist()
    return [[1, *torch.randint(3, 90, (length,), generator=generator).tolist(), END_ID] for length in lengths]


def windows() -> list[list[int]]:
    """Every beginning of every text; every other one with a last token that the text has not, as cuts in words do."""
    found = []
    for text in texts():
        for length in range(4, len(text) - 1, 3):
            found += [text[:length], [*text[:length], 3 + (7 * length) % 87]]
    return found


def trained(name: str) -> Any:
    torch.manual_seed(7)
    model = FAMILIES[name]().float()
    rows = [[*text, *[PAD_ID] * (50 - len(text))] for text in texts()]
    ids = torch.tensor(rows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(90):
        model(input_ids=ids, labels=ids.masked_fill(ids == PAD_ID, -100)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def plain(model: Any, prompts: list[list[int]]) -> list[Continuation]:
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        new = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=BUDGET, eos_token_id=END_ID,
            pad_token_id=PAD_ID,
        )[0, len(prompt) :].tolist()  # fmt: skip
        ended = new[-1] == END_ID
        found.append(Continuation(tuple(new[:-1] if ended else new), END_ID if ended else None))
    return found


BY_CHANCE = 2  # windows of random weights that are close by themselves; which, depends on the processor's rounding


@pytest.fixture(scope="module", params=list(FAMILIES))
def case(request: pytest.FixtureRequest) -> tuple[Any, list[Continuation]]:
    with torch.random.fork_rng():
        model = trained(request.param)
    return model, plain(model, windows())


def run(model: Any, prompts: list[list[int]], *, slots: int, **changes: Any) -> dict[int, Continuation]:
    settings: dict[str, Any] = {"budgets": [BUDGET] * len(prompts), "end_ids": frozenset({END_ID}), "pad_id": PAD_ID}
    return dict(continue_greedily(model, prompts, **{**settings, "slots": slots, "progress": None, **changes}))


class Fed:
    """Counts the tokens that go into a model."""

    def __init__(self, model: Any) -> None:
        self.tokens = 0
        self._hook = model.get_input_embeddings().register_forward_pre_hook(self._count)

    def _count(self, _: Any, inputs: Any) -> None:
        self.tokens += inputs[0].numel()

    def __enter__(self) -> Fed:
        return self

    def __exit__(self, *_: Any) -> None:
        self._hook.remove()


def test_each_of_several_end_tokens_ends_a_text_behind_a_long_chat_prompt(case: tuple[Any, list[Continuation]]) -> None:
    model, _ = case
    chat = [1, *range(3, 42)]  # what a template puts before every question, a system message
    ends = frozenset({END_ID, *range(3, 90, 9)})
    prompts = [[*chat, *window] for window in windows()[:60]]
    expected = [reference_continuation(model, prompt, budget=BUDGET, end_ids=ends, pad_id=END_ID) for prompt in prompts]
    assert len({each.end for each in expected}) >= 4
    for slots in (2, 64):
        found = run(model, prompts, slots=slots, end_ids=ends, pad_id=END_ID)  # padded with an end token, as SmolLM2
        assert [found[index] for index in range(len(prompts))] == expected


def test_the_windows_end_in_many_ways(case: tuple[Any, list[Continuation]]) -> None:
    _, expected = case
    lengths = [len(each.ids) for each in expected]
    assert len(expected) >= 200
    assert len(set(lengths)) >= 12
    assert 40 <= sum(each.stop == "end" for each in expected) <= len(expected) - 20


@pytest.mark.parametrize("slots", [1, 3, 16, 64, 128])
def test_same_text_for_every_number_of_slots(case: tuple[Any, list[Continuation]], slots: int) -> None:
    model, expected = case
    found = run(model, windows(), slots=slots)
    assert [found[index] for index in range(len(expected))] == expected


def test_same_text_with_attention_written_out(case: tuple[Any, list[Continuation]]) -> None:
    model = copy.deepcopy(case[0])
    model.set_attn_implementation("eager")
    assert dtype_of(model) is torch.float32
    found = run(model, windows(), slots=16)
    assert [found[index] for index in range(len(case[1]))] == case[1]


@pytest.mark.parametrize("seed", [0, 1])
def test_same_text_in_every_order_and_company(case: tuple[Any, list[Continuation]], seed: int) -> None:
    model, expected = case
    order = torch.randperm(len(expected), generator=torch.Generator().manual_seed(seed)).tolist()
    order = order[: len(order) // (1 + seed)]
    found = run(model, [windows()[index] for index in order], slots=16)
    assert [found[place] for place in range(len(order))] == [expected[index] for index in order]


def test_every_prompt_has_its_own_budget(case: tuple[Any, list[Continuation]]) -> None:
    model, expected = case
    budgets = [(5 * index) % (BUDGET + 1) for index in range(len(expected))]
    found = run(model, windows(), slots=16, budgets=budgets)
    assert [found[index] for index in range(len(expected))] == [
        each.within(budget) for each, budget in zip(expected, budgets, strict=True)
    ]


def test_shared_beginnings_and_known_continuations_are_computed_once(case: tuple[Any, list[Continuation]]) -> None:
    model, expected = case
    said = sum(len(each.ids) + (each.end is not None) for each in expected)
    with Fed(model) as engine:
        run(model, windows(), slots=64)
    assert engine.tokens < 0.8 * said  # one by one, more than all that is said and shown goes in


def test_close_choices_are_made_again_without_company(case: tuple[Any, list[Continuation]]) -> None:
    """Two tokens with the same output weights are always equally likely: wherever one is said, it was close."""
    model = copy.deepcopy(case[0])
    said = [token for each in case[1] for token in each.ids]
    double = max(set(said), key=said.count)
    unused = 95
    with torch.no_grad():
        model.lm_head.weight[unused] = model.lm_head.weight[double]
        if model.lm_head.bias is not None:
            model.lm_head.bias[unused] = model.lm_head.bias[double]
    prompts = windows()[::3]
    alone: list[int] = []
    found = run(model, prompts, slots=16, alone=alone.append)
    expected = plain(model, prompts)
    assert [found[index] for index in range(len(prompts))] == expected
    touched = {index for index, each in enumerate(expected) if double in each.ids or unused in each.ids}
    assert touched <= {*alone}
    assert len({*alone} - touched) <= BY_CHANCE
    assert 5 <= len(touched) < len(prompts)


def test_hardly_anything_is_done_again_where_nothing_is_made_close(case: tuple[Any, list[Continuation]]) -> None:
    alone: list[int] = []
    run(case[0], windows()[:40], slots=16, alone=alone.append)
    assert len(alone) <= BY_CHANCE


class Blind(LlamaForCausalLM):
    """Makes its own mask: what it is given for every position goes unread."""

    def forward(self, attention_mask: Any = None, **inputs: Any) -> Any:
        flat = attention_mask if attention_mask is None or attention_mask.ndim == 2 else None
        return super().forward(attention_mask=flat, **inputs)


def test_a_model_that_ignores_the_mask_is_found_out_and_continued_the_plain_way() -> None:
    model = tiny_llama(Blind, seed=2, num_key_value_heads=4, initializer_range=0.3, **SIZES)
    prompts = windows()[:30]
    dtype = dtype_of(model)
    assert dtype is torch.float32
    assert not supports_prefix_sharing(model, prompts[-1], pad_id=PAD_ID, dtype=dtype)
    found = run(model, prompts, slots=8)
    assert [found[index] for index in range(30)] == plain(model, prompts)


def test_trained_models_share_beginnings(case: tuple[Any, list[Continuation]]) -> None:
    dtype = dtype_of(case[0])
    assert dtype is torch.float32
    for prompt in ([5], [5, 6, 7], windows()[-1]):
        assert supports_prefix_sharing(case[0], prompt, pad_id=PAD_ID, dtype=dtype)


def test_windowed_attention_and_positions_that_stretch_share_nothing() -> None:
    windowed = Qwen2Config(
        num_key_value_heads=2, use_sliding_window=True, sliding_window=8, max_window_layers=1, **SIZES
    )
    assert dtype_of(Qwen2ForCausalLM(windowed)) is None
    stretched = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    assert dtype_of(tiny_llama(rope_parameters=stretched, **SIZES)) is None
    assert dtype_of(lambda **_: None) is None


RECURRENT: dict[str, Any] = {
    "mamba": lambda: MambaForCausalLM(
        MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4, initializer_range=0.5)
    ),
    "hybrid": lambda: Lfm2ForCausalLM(
        Lfm2Config(
            vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, intermediate_size=64, num_attention_heads=4,
            num_key_value_heads=2, full_attn_idxs=[1], initializer_range=0.3,
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(RECURRENT))
def test_a_model_whose_memory_is_no_cache_of_keys_is_queried_one_by_one(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = RECURRENT[name]().eval()
    prompts = windows()[:12]
    assert not supports_padding(model, prompts[-1], pad_id=PAD_ID)
    found = run(model, prompts, slots=8)
    assert [found[index] for index in range(12)] == plain(model, prompts)
    assert len({each.ids for each in found.values()}) > 6  # it does not say the same after all of them


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_model_with_an_attention_of_its_own_shares_nothing_in_any_format(dtype: torch.dtype) -> None:
    config = FalconConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, bos_token_id=1,
        eos_token_id=END_ID,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = FalconForCausalLM(config).to(dtype).eval()
    prompt = windows()[-1]
    assert not supports_prefix_sharing(model, prompt, pad_id=PAD_ID, dtype=dtype)
    assert supports_padding(model, prompt, pad_id=PAD_ID)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_formats_share_beginnings_too(case: tuple[Any, list[Continuation]], dtype: torch.dtype) -> None:
    model = copy.deepcopy(case[0]).to(dtype)
    assert all(supports_prefix_sharing(model, prompt, pad_id=PAD_ID, dtype=dtype) for prompt in windows()[::7])


def test_trained_models_can_be_padded(case: tuple[Any, list[Continuation]]) -> None:
    assert supports_padding(case[0], windows()[-1], pad_id=PAD_ID)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("sharing", [True, False])
def test_a_model_that_gives_no_numbers_is_no_answer(dtype, value, sharing) -> None:
    """Whatever were chosen would read as an answer, and score 0: forgotten."""
    torch.manual_seed(0)
    model: Any = tiny_llama(**SIZES)
    if not sharing:  # sliding windows are asked in padded batches
        model = MistralForCausalLM(MistralConfig(**SIZES, num_key_value_heads=4, sliding_window=8))
    model = model.to(dtype)
    with torch.no_grad():
        model.lm_head.weight[3, 4] = value
    message = (
        r"the model's logits are not finite: its weights are damaged, .*\(then set model.precision=bf16-true or 32"
    )
    with pytest.raises(NotFiniteError, match=message):
        list(
            continue_greedily(
                model.eval(), [[5, 6, 7], [5, 6, 8]], budgets=[4, 4], end_ids=frozenset(), pad_id=0, slots=4,
                progress=None,
            )
        )  # fmt: skip
    with pytest.raises(NotFiniteError):
        reference_continuation(model, [5, 6, 7], budget=4, end_ids=frozenset(), pad_id=0)
