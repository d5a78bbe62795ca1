"""No unlearning: the unmodified target model, the baseline in every table."""

from __future__ import annotations

from meow_lightning.methods.base import BaseMethod


class NoUnlearning(BaseMethod):
    """The target model itself."""
