"""Retraining without the forget set: the goal of unlearning and the upper bound of every table."""

from __future__ import annotations

from typing import ClassVar, Literal

from meow_lightning.methods.base import BaseMethod


class Retrain(BaseMethod):
    """The retain model itself."""

    start: ClassVar[Literal["target", "retain"]] = "retain"
