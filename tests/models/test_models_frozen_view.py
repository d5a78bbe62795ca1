from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from meow_lightning.models.frozen_view import FrozenView


@contextmanager
def zeroed(model: torch.nn.Module) -> Iterator[None]:
    kept = model.bias.detach().clone()
    model.bias.data.zero_()
    try:
        yield
    finally:
        model.bias.data.copy_(kept)


def test_a_view_runs_under_its_context_without_gradients_and_owns_no_weights() -> None:
    model = torch.nn.Linear(2, 1)
    view, row = FrozenView(model, zeroed), torch.tensor([[1.0, 2.0]])
    output = view(input=row)
    assert not output.requires_grad
    assert output == row @ model.weight.T
    assert torch.equal(model(row), row @ model.weight.T + model.bias)
    assert not list(view.parameters())


def test_the_model_comes_back_after_an_error() -> None:
    model = torch.nn.Linear(2, 1)
    kept = model.bias.detach().clone()
    with pytest.raises(RuntimeError):
        FrozenView(model, zeroed)(input=torch.ones(1, 3))
    assert torch.equal(model.bias, kept)
