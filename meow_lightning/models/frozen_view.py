"""A model under a context that makes it the start model again, without a second copy of its weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch


class FrozenView(torch.nn.Module):
    """A model in training as it was before, for inference without gradients: its trained parts are disabled.

    Args:
        model: The model in training.
        disabled: Disables the trained parts within a context.
    """

    def __init__(
        self, model: torch.nn.Module, disabled: Callable[[torch.nn.Module], AbstractContextManager[None]]
    ) -> None:
        super().__init__()
        self._model = (model,)  # not a submodule: the trainer moves the model itself
        self._disabled = disabled

    def get_output_embeddings(self) -> torch.nn.Module:
        """Return the model's head, which has no trained part."""
        return self._model[0].get_output_embeddings()  # type: ignore[operator, no-any-return]

    def forward(self, **inputs: Any) -> Any:
        """Run the model with its trained parts disabled."""
        with torch.no_grad(), self._disabled(self._model[0]):
            return self._model[0](**inputs)
