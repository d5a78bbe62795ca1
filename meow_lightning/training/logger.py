"""A Lightning logger that passes every point to a callable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning.loggers.logger import Logger


class CallableLogger(Logger):
    """Passes every logged point to a function, in the first process only.

    Args:
        write: Called with a point including its ``step``.
    """

    def __init__(self, *, write: Any) -> None:
        super().__init__()
        self._write = write

    @property
    def name(self) -> str:
        """Return a placeholder name, which Lightning requires."""
        return "points"

    @property
    def version(self) -> str:
        """Return a placeholder version, which Lightning requires."""
        return "0"

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Pass a point to the function."""
        if torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
            return
        self._write({"step": step, **metrics})

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Ignore hyperparameters: settings are stored in the manifest."""
