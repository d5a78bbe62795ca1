"""Builders of streams whose options are those of the run, not of the method."""

from __future__ import annotations

from meow_lightning.config.recipes import method_recipe
from meow_lightning.config.schema import RunConfig
from meow_lightning.data.streams.refusals import Refusals, refusals_from


def refusals_of(config: RunConfig) -> Refusals:
    """Build the refusals that the method of a run trains on: drawn once, or anew for each of its epochs.

    Args:
        config: The options of the run.

    Raises:
        UserError: The file of ``method.refusals`` cannot be used.
    """
    method = config.method
    return refusals_from(method.refusals, epochs=method_recipe(config, "epochs")[0] if method.redraw_refusals else None)
