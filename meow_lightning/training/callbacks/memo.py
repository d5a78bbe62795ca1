"""MEMO while a model is trained: the same few texts before, every few epochs, and after."""

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

    def __init__(
        self, *, codec: PromptEncoder, texts: Sequence[Text], by: Measure, every: int, slots: int | AdaptiveBatchSize
    ) -> None:
        super().__init__(name="memo", every=every)
        self.codec, self.texts, self.by, self.slots = codec, list(texts), by, slots

    def values(self, model: torch.nn.Module, trainer: pl.Trainer) -> dict[str, float]:
        """Mean MEMO by measure and kind of text."""
        found = score_texts(
            model, self.codec, shard(self.texts), by=self.by, slots=self.slots, progress=None, done=(), alone=None
        )
        scored = all_gather([(text.kind, text.score) for text in found])
        values = {}
        for kind, name in (("answer", "true_answers"), ("candidate", "candidates")):
            scores = [score for its_kind, score in scored if its_kind == kind]
            if scores:
                # the exact sum does not depend on who measured what
                values[f"{self.by.name}/{name}"] = math.fsum(scores) / len(scores)
        return values
