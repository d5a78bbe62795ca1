"""The number formats that a stage trains in."""

from __future__ import annotations

from meow_lightning.config.precision import Precision, precision_of
from meow_lightning.stages.base import StageContext


def training_precision(work: StageContext) -> Precision:
    """Resolve the number formats that the ``model`` settings name."""
    model = work.settings["model"]
    return precision_of(model["precision"], adapters=model["lora"] is not None)
