from __future__ import annotations

import pytest
import torch

from meow_lightning.models.tiny import END, PAD, llama, tokenizer_from

ODD = [
    "", " ", "  two  blanks  ", "tab\tand\nnewlines\n\n", "Käthe Müller-Lüdenscheidt", "北京大学", "مرحبا",
    "👩‍👩‍👧‍👦 🇫🇷 emoji",
    "e\u0301 and é", "zero\u200bwidth", "\u00a0hard blank", "NUL\x00byte", "<|endoftext|> <s> [INST]", "\ufeffmark",
    " .,;:!?\"'", "don't can 't",
]  # fmt: skip


@pytest.mark.parametrize("text", ODD)
def test_any_text_comes_back_as_it_was(tokenizer, text: str) -> None:
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert not {tokenizer.eos_token_id, tokenizer.pad_token_id} & set(ids)


def test_vocabulary_has_the_requested_size() -> None:
    texts = [f"number {i} of {i * i} things" for i in range(300)]
    assert [len(tokenizer_from(texts, vocab_size=size)) for size in (258, 300, 333)] == [258, 300, 333]


def test_special_tokens_come_first(tokenizer) -> None:
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == (END, 0)
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == (PAD, 1)
    assert tokenizer.bos_token is None


def test_the_same_texts_give_the_same_tokenizer() -> None:
    texts = ["one two three", "two three four"]
    first, second = tokenizer_from(texts, vocab_size=270), tokenizer_from(texts, vocab_size=270)
    assert first.get_vocab() == second.get_vocab()


def make(**changes: int) -> torch.nn.Module:
    sizes = {"vocab_size": 300, "hidden_size": 16, "layers": 2, "heads": 4, "intermediate_size": 24, "context": 64}
    return llama(**{**sizes, "end_id": 0, "pad_id": 1, **changes})


def test_number_of_weights_by_hand() -> None:
    # Embedding 300 * 16 (the head is tied to it); a layer: q k v o 4 * 16 * 16, mlp 3 * 16 * 24, two norms 2 * 16;
    # a last norm 16: 4800 + 2 * (1024 + 1152 + 32) + 16 = 9232
    assert sum(weight.numel() for weight in make().parameters()) == 9232


def test_head_is_the_embedding() -> None:
    model = make()
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_config_names_context_and_special_tokens() -> None:
    config = make().config
    assert config.max_position_embeddings == 64
    assert (config.eos_token_id, config.pad_token_id, config.bos_token_id) == (0, 1, None)


def test_the_callers_seed_decides() -> None:
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(make().model.embed_tokens.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
