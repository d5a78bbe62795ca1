"""MEMO while a model is trained: the same few texts before, every few epochs, and after."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytorch_lightning as pl
import torch

from meow_lightning.data.prompting import Codec
from meow_lightning.distributed import gathered, mine
from meow_lightning.generation.batch_size import Room
from meow_lightning.memo.measure import Measure, Text, measure
from meow_lightning.training.callbacks.probe import Curve


class MemoCurve(Curve):
    """Logs the mean MEMO of some texts as ``memo/<measure>/answers`` or ``candidates``, and the seconds it took.

    The measure stands in the name because the curve belongs to a training that does not depend on how MEMO is measured.
    Several processes share the texts.

    Args:
        codec: The model's prompts and tokens.
        texts: What to measure, the same texts every time.
        by: How the texts are measured.
        every: Steps between two points, 1 or more.
        slots: Prompts generated side by side.
    """

    def __init__(self, *, codec: Codec, texts: Sequence[Text], by: Measure, every: int, slots: int | Room) -> None:
        super().__init__(name="memo", every=every)
        self.codec, self.texts, self.by, self.slots = codec, list(texts), by, slots

    def values(self, model: torch.nn.Module, trainer: pl.Trainer) -> dict[str, float]:
        """Mean MEMO by measure and kind of text."""
        found = measure(
            model, self.codec, mine(self.texts), by=self.by, slots=self.slots, progress=None, done=(), alone=None
        )
        scored = gathered([(text.kind, text.score) for text in found])
        values = {}
        for kind, name in (("answer", "answers"), ("candidate", "candidates")):
            scores = [score for its_kind, score in scored if its_kind == kind]
            if scores:
                # the exact sum does not depend on who measured what
                values[f"{self.by.name}/{name}"] = math.fsum(scores) / len(scores)
        return values
