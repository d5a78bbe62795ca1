"""NF4: what bitsandbytes is asked to round, the weights that are written back, and what to install without it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from meow_lightning.attacks import nf4
from meow_lightning.attacks.base import AttackContext
from meow_lightning.attacks.nf4 import Nf4
from meow_lightning.errors import UserError

CONTEXT = AttackContext(warn=lambda text: None, train=lambda model: model)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], dict[str, Any]]]:
    """Shapes and settings that a stand-in for bitsandbytes, which rounds to halves, was given."""
    given: list[tuple[tuple[int, ...], dict[str, Any]]] = []
    package, functional = ModuleType("bitsandbytes"), ModuleType("bitsandbytes.functional")

    def quantize_4bit(weight: torch.Tensor, **settings: Any) -> tuple[torch.Tensor, str]:
        assert weight.is_contiguous()
        given.append((tuple(weight.shape), settings))
        return (2 * weight).round(), "state"

    functional.quantize_4bit = quantize_4bit  # type: ignore[attr-defined]
    functional.dequantize_4bit = lambda packed, state: packed / 2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", functional)
    monkeypatch.setattr(nf4, "find_spec", lambda name: True)
    return given


def test_the_weights_of_linear_layers_are_rounded_and_written_back(asked, tiny) -> None:
    before = {name: weight.detach().clone() for name, weight in tiny.named_parameters()}
    after = dict(Nf4(block=128, embeddings=False, head=False).transform_model(tiny, CONTEXT).named_parameters())
    linear = {name for name in before if "proj" in name}
    assert len(asked) == len(linear)
    assert all(settings == {"blocksize": 128, "quant_type": "nf4"} for _, settings in asked)
    for name, weight in before.items():
        expected = (2 * weight).round() / 2 if name in linear else weight
        assert torch.equal(after[name], expected), name


def test_without_bitsandbytes_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nf4, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs bitsandbytes: pip install 'meow-lightning\[gpu\]'"):
        Nf4(block=64, embeddings=False, head=False)


def test_a_block_is_of_a_size_that_bitsandbytes_has(asked) -> None:
    with pytest.raises(UserError, match=r"^attacks\.block=100 .*Did you mean 128\?"):
        Nf4(block=100, embeddings=False, head=False)  # type: ignore[arg-type]
