"""No unlearning: the unmodified target model, the baseline of every table."""

from __future__ import annotations

from meow_lightning.methods.base import BaseMethod


class NoUnlearning(BaseMethod):
    """The target model itself."""
