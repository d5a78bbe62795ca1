"""Several sampled texts of one prompt: the distribution, and the same texts whatever shares their batch."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from helpers.logits import ENDS, PROMPTS, small
from helpers.models import tiny_sizes
from transformers import AutoModelForCausalLM, Phi3Config

from meow_lightning.errors import NotFiniteError
from meow_lightning.generation import sampled
from meow_lightning.generation.batch_size import AdaptiveBatchSize
from meow_lightning.generation.batching import Continuation
from meow_lightning.generation.sampled import Sampler, Sampling
from meow_lightning.generation.sampling import sample_with_gap
from meow_lightning.models.logits_model import LogitsModel

WHOLE = Sampling(temperature=1.0, top_k=1024, top_p=1.0)
SEEDS = [f"0/fact/{number}" for number in range(24)]


def sampler(model, *, sampling: Sampling = WHOLE, slots: int = 64, ends: frozenset[int] = ENDS) -> Sampler:
    return Sampler(model, sampling=sampling, end_ids=ends, pad_id=1, slots=AdaptiveBatchSize(slots, note=None))


# Shares .1 .4 .3 .2 of four tokens.
LOGITS = torch.tensor([[0.1, 0.4, 0.3, 0.2]]).log()


@pytest.mark.parametrize(
    ("top_k", "top_p", "uniform", "token", "gap"),
    [
        (1024, 1.0, 0.45, 1, 0.05),  # ends .1 .5 .8 1 in order of the tokens' ids
        (1024, 1.0, 0.52, 2, 0.02),
        (2, 1.0, 0.5, 1, 0.05),  # of tokens 1 and 2 alone, .4 and .7: at .35, .05 before the end of token 1
        (1, 1.0, 0.99, 1, 0.004),
        (1024, 0.65, 0.6, 2, 0.02),  # again tokens 1 and 2: at .42
    ],
)
def test_the_token_and_how_far_rounding_is_from_another(
    top_k: int, top_p: float, uniform: float, token: int, gap: float
) -> None:
    tokens, gaps = sample_with_gap(
        LOGITS, torch.tensor([uniform], dtype=torch.float64), temperature=1.0, top_k=top_k, top_p=top_p
    )
    assert tokens.tolist() == [token]
    assert gaps.item() == pytest.approx(gap, abs=1e-6)


def test_a_cut_between_equal_tokens_is_close_only_where_it_reaches_the_token() -> None:
    logits = torch.tensor([[0.5, 0.2, 0.15, 0.15]]).log()
    numbers = torch.tensor([0.1, 0.97], dtype=torch.float64)
    _, gaps = sample_with_gap(logits.expand(2, 4), numbers, temperature=1.0, top_k=3, top_p=1.0)
    assert gaps[0] > 0.1  # token 0, whichever of the equal ones is cut
    assert gaps[1] == pytest.approx(0.0, abs=1e-6)  # one of the equal ones themselves


def test_first_tokens_are_distributed_as_the_model_says() -> None:
    model, count = small(0, 2), 4000
    texts = sampler(model, ends=frozenset()).sample(PROMPTS[0], seeds=[str(n) for n in range(count)], budget=1)
    with torch.no_grad():
        shares = model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(-1).tolist()
    found = Counter(text.ids[0] for text in texts)
    for token, share in enumerate(shares):
        assert abs(found[token] / count - share) < 4.5 * (share * (1 - share) / count) ** 0.5


@pytest.mark.parametrize("sampling", [WHOLE, Sampling(0.7, 5, 0.9)])
def test_the_texts_are_the_same_for_any_batch_size_and_number_of_samples(sampling: Sampling) -> None:
    model = small(0, 2)
    texts = sampler(model, sampling=sampling).sample(PROMPTS[0], seeds=SEEDS, budget=12)
    assert len(set(texts)) > 12
    for slots in (1, 5):
        assert sampler(model, sampling=sampling, slots=slots).sample(PROMPTS[0], seeds=SEEDS, budget=12) == texts
    assert sampler(model, sampling=sampling).sample(PROMPTS[0], seeds=SEEDS[:3], budget=12) == texts[:3]


def test_a_text_that_rounding_may_have_decided_is_sampled_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(0, 1)
    texts = sampler(model).sample(PROMPTS[0], seeds=SEEDS, budget=8)
    monkeypatch.setattr(sampled, "MARGIN", 1.0)  # every choice
    sizes: list[int] = []
    together = Sampler._together
    monkeypatch.setattr(Sampler, "_together", lambda *given: sizes.append(len(given[2])) or together(*given))
    assert sampler(model).sample(PROMPTS[0], seeds=SEEDS, budget=8) == texts
    assert sizes == [len(SEEDS), *[1] * len(SEEDS)]


def test_a_model_without_a_cache_gives_the_same_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(0, 2)
    texts = sampler(model).sample(PROMPTS[0], seeds=SEEDS, budget=8)
    monkeypatch.setattr(sampled, "supports_padding", lambda *_, **__: False)
    assert sampler(model).sample(PROMPTS[0], seeds=SEEDS, budget=8) == texts


def test_logits_of_several_models_are_sampled_too() -> None:
    class Same(LogitsModel):
        def combine(self, *logits_BTV: torch.Tensor) -> torch.Tensor:  # noqa: N803
            return logits_BTV[0]

    model = small(0, 2)
    texts = sampler(model).sample(PROMPTS[0], seeds=SEEDS, budget=8)
    assert sampler(Same(model, small(1, 1)).eval()).sample(PROMPTS[0], seeds=SEEDS, budget=8) == texts


def test_frequencies_that_follow_the_longest_text_are_those_of_the_text_alone() -> None:
    torch.manual_seed(0)
    border = 24
    rope = {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4,
        "long_factor": [1.0, 3.0, 9.0, 30.0], "original_max_position_embeddings": border,
    }  # fmt: skip
    sizes = tiny_sizes(num_key_value_heads=2, vocab_size=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    config = Phi3Config(
        **sizes, max_position_embeddings=96, original_max_position_embeddings=border, rope_parameters=rope
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    prompt = list(range(3, 23))
    texts = sampler(model, ends=frozenset({2})).sample(prompt, seeds=SEEDS[:4], budget=10)
    for seed, text in zip(SEEDS, texts, strict=False):
        rng, ids = random.Random(seed), list(prompt)
        for token in text.ids:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[:, -1]
            uniform = torch.tensor([rng.random()], dtype=torch.float64)
            assert sample_with_gap(logits, uniform, **WHOLE._asdict())[0].item() == token
            ids.append(token)


def test_no_budget_gives_empty_texts() -> None:
    assert sampler(small(0, 1)).sample(PROMPTS[0], seeds=SEEDS[:2], budget=0) == [Continuation((), None)] * 2


def test_logits_that_are_not_numbers_are_refused() -> None:
    model = small(0, 1)
    with torch.no_grad():
        model.get_output_embeddings().weight[:] = float("nan")
    with pytest.raises(NotFiniteError):
        sampler(model).sample(PROMPTS[0], seeds=SEEDS[:2], budget=4)


def test_running_out_of_memory_halves_the_batch_and_changes_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(0, 1)
    texts = sampler(model).sample(PROMPTS[0], seeds=SEEDS, budget=6)
    together = Sampler._together

    def short(self, prompt, seeds, budget):
        if len(seeds) > 8:
            raise torch.OutOfMemoryError
        return together(self, prompt, seeds, budget)

    monkeypatch.setattr(Sampler, "_together", short)
    batch_size = AdaptiveBatchSize(20, note=None)
    small_batches = Sampler(model, sampling=WHOLE, end_ids=ENDS, pad_id=1, slots=batch_size)
    assert small_batches.sample(PROMPTS[0], seeds=SEEDS, budget=6) == texts
    assert batch_size.slots == 5
