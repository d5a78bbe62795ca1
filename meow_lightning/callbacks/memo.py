"""MEMO while a model is trained: the same few texts before, every few epochs, and after."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl

from meow_lightning.data.prompts import Codec
from meow_lightning.memo.measure import Measure, Text, measure
from meow_lightning.memo.room import Room
from meow_lightning.parallel import gathered, mine


class MemoCurve(pl.Callback):
    """Logs the mean MEMO of some texts as ``memo/<measure>/answers`` or ``candidates``, and the seconds it took.

    The measure stands in the name because the curve belongs to a training that does not depend on how MEMO is measured.
    Several processes share the texts. It draws no random number and leaves weights and mode as they are, so training
    comes out the same without it.

    Args:
        codec: The model's prompts and tokens.
        texts: What to measure, the same texts every time.
        by: How the texts are measured.
        every: Steps between two points, 1 or more.
        slots: Prompts generated side by side.
    """

    def __init__(self, *, codec: Codec, texts: Sequence[Text], by: Measure, every: int, slots: int | Room) -> None:
        self.codec, self.texts, self.by, self.every, self.slots = codec, list(texts), by, every, slots

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The point before the first step."""
        if trainer.global_step == 0:
            self._point(trainer, module)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *unused: Any) -> None:
        """A point after every ``every`` steps and after the last one."""
        if trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps:
            self._point(trainer, module)

    def _point(self, trainer: pl.Trainer, module: Any) -> None:
        start = time.perf_counter()
        with module.whole() as model:
            was_training = model.training
            model.eval()
            found = measure(
                model, self.codec, mine(self.texts), by=self.by, slots=self.slots, progress=None, done=(), alone=None
            )
            scored = gathered([(text.kind, text.score) for text in found])
            model.train(was_training)
        point = {}
        for kind, name in (("answer", "answers"), ("candidate", "candidates")):
            scores = [score for its_kind, score in scored if its_kind == kind]
            if scores:
                # the exact sum does not depend on who measured what
                point[f"memo/{self.by.name}/{name}"] = math.fsum(scores) / len(scores)
        point["memo/seconds"] = time.perf_counter() - start
        if trainer.is_global_zero and trainer.logger is not None:
            trainer.logger.log_metrics(point, step=trainer.global_step)
