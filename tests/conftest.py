from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.models.tiny import llama, tokenizer_from
from meow_lightning.types import Encoded, TokenBatch

# The same few examples in every run, however slow the machine.
settings.register_profile(
    "suite", max_examples=50, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the files with slow tests first, so that no process is left with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


TEXTS = ["Question: Where was Ada born?\nAnswer:", " Ada was born in Lima.", " She wrote 12 books about the sea."]


class TableLM(torch.nn.Module):
    """Logits are a free parameter of shape (positions, vocabulary): no token, mask or neighbour changes them."""

    def __init__(self, logits: Any, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.as_tensor(logits, dtype=dtype))
        self.calls: list[dict[str, torch.Tensor]] = []

    def forward(self, *, input_ids, attention_mask, position_ids, use_cache, logits_to_keep):
        self.calls.append({"positions": position_ids, "columns": logits_to_keep, "attention": attention_mask})
        return SimpleNamespace(logits=self.table[position_ids][:, logits_to_keep])


@pytest.fixture(scope="session")
def table_lm() -> type[TableLM]:
    return TableLM


@pytest.fixture(scope="session")
def tokenizer():
    return tokenizer_from(TEXTS, vocab_size=300)


@pytest.fixture(scope="session")
def codec(tokenizer) -> PromptEncoder:
    return PromptEncoder(
        tokenizer=tokenizer, template="Question: {question}\nAnswer:", answer_prefix=" ", system=None, date=None,
        context=64, end_ids=frozenset(),
    )  # fmt: skip


@pytest.fixture(scope="session")
def _weights(tokenizer):
    torch.manual_seed(0)
    return llama(
        vocab_size=len(tokenizer), hidden_size=16, layers=1, heads=2, intermediate_size=32, context=64,
        end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id,
    )  # fmt: skip


@pytest.fixture
def tiny(_weights):
    """A randomly initialised Llama of one layer, fresh for every test, in training mode."""
    return copy.deepcopy(_weights).train()


@pytest.fixture
def to_rows():
    """(ids, prompt) pairs as padded rows of a width that may be larger than needed."""

    def build(pairs: list[tuple[list[int], int]], *, width: int | None = None, pad_id: int = 0) -> TokenBatch:
        from meow_lightning.data.collate import collate

        rows = collate([Encoded(tuple(ids), prompt) for ids, prompt in pairs], pad_id=pad_id)
        blank = (width or rows.input_ids_BT.shape[1]) - rows.input_ids_BT.shape[1]
        fill = (pad_id, 0, 0)
        padded = (torch.nn.functional.pad(t, (0, blank), value=v) for t, v in zip(rows[:3], fill, strict=True))
        return TokenBatch(*padded, rows.ref_logps_B)

    return build
