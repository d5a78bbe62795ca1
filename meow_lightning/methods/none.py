"""No unlearning: the target model as it is, the row every table starts from."""

from __future__ import annotations

from meow_lightning.methods.base import BaseMethod


class NoUnlearning(BaseMethod):
    """The target model itself."""
