"""MEMO during training: the same few texts before, every few epochs, and after."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytorch_lightning as pl
import torch

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.distributed import all_gather, shard
from meow_lightning.generation.batch_size import AdaptiveBatchSize
from meow_lightning.memo.measure import Measure, Text, score_texts
from meow_lightning.training.callbacks.probe import PeriodicProbe


class MemoProbe(PeriodicProbe):
    """Logs the mean MEMO of some texts as ``memo/<measure>/answers`` or ``candidates``, and the seconds taken.

    The measure is part of the name because the same training can be observed with different measures. Processes share
    the texts.

    Args:
        codec: The model's prompt encoder.
        texts: The texts to score, the same every time.
        by: The measure.
        every: Steps between points, 1 or more.
        slots: Prompts per generation batch.
    """

    def __init__(
        self, *, codec: PromptEncoder, texts: Sequence[Text], by: Measure, every: int, slots: int | AdaptiveBatchSize
    ) -> None:
        super().__init__(name="memo", every=every)
        self.codec, self.texts, self.by, self.slots = codec, list(texts), by, slots

    def values(self, model: torch.nn.Module, trainer: pl.Trainer, *, trained: torch.nn.Module) -> dict[str, float]:
        """Compute the mean MEMO by measure and kind of text."""
        scores = score_texts(
            model, self.codec, shard(self.texts), by=self.by, slots=self.slots, progress=None, done=(), alone=None
        )
        scored = all_gather([(text.kind, text.score) for text in scores])
        means = {}
        for kind, name in (("answer", "true_answers"), ("candidate", "candidates")):
            values = [score for scored_kind, score in scored if scored_kind == kind]
            if values:
                # the exact sum does not depend on the distribution of texts over processes
                means[f"{self.by.name}/{name}"] = math.fsum(values) / len(values)
        return means
