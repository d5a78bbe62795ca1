"""A small dataset and a small random model, for tests of the library."""

from __future__ import annotations

import torch

import meow_lightning as meow
from meow_lightning.config.precision import PRECISIONS
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.models.float64 import float64_forward
from meow_lightning.models.load import DTYPES
from meow_lightning.models.tiny import llama, tokenizer_from


def dataset(limit: int = 6) -> meow.FactDataset:
    """Load a few fictional facts."""
    return meow.load_dataset("fictional", authors=12, retain_eval=8, limit=limit)


def language_model(facts: meow.FactDataset, *, precision: str = "32-true") -> meow.LanguageModel:
    """Build a randomly initialised Llama of two layers, the same in every call."""
    tokenizer = tokenizer_from(
        [f"{question} {answer}" for question, answer in facts.tokenizer_corpus()], vocab_size=400
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = llama(
            vocab_size=len(tokenizer), hidden_size=32, layers=2, heads=2, intermediate_size=64, context=256,
            end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id,
        )  # fmt: skip
    model = model.eval().to(DTYPES[PRECISIONS[precision].weights])
    if precision == "64-true":
        float64_forward(model)
    encoder = PromptEncoder(
        tokenizer=tokenizer, template="Question: {question}\nAnswer:", answer_prefix=" ", system=None, date=None,
        context=256, end_ids=frozenset(),
    )  # fmt: skip
    return meow.LanguageModel(model, encoder, precision=precision)
