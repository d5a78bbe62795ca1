"""A Lightning logger that hands every point to a callable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning.loggers.logger import Logger


class CallableLogger(Logger):
    """Hands every logged point to a function, on the first process only.

    Args:
        write: Takes a point with its ``step``.
    """

    def __init__(self, *, write: Any) -> None:
        super().__init__()
        self._write = write

    @property
    def name(self) -> str:
        """A name, because Lightning asks for one."""
        return "points"

    @property
    def version(self) -> str:
        """A version, because Lightning asks for one."""
        return "0"

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Pass one point on."""
        if torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
            return
        self._write({"step": step, **metrics})

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: settings are in the manifest."""
