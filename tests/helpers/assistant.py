"""An unlearning method with two models at inference, after ULD: what a small assistant knows is subtracted.

It is the example of the method contract: this file and the YAML text below are all there is of it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from meow_lightning.methods.base import BaseMethod, PrepareContext
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.models.logits_model import LogitsModel
from meow_lightning.models.logprobs import scored_logits
from meow_lightning.types import Batch, LossPart, LossParts

YAML = """
name: assistant
_target_: helpers.assistant.Assistant
weight: 0.75
lr: {default: 1.0e-3}
epochs: {default: 2}
global_batch_size: {default: 8}
"""


class Difference(LogitsModel):
    """Logits big - weight * small."""

    def __init__(self, big: Any, small: Any, *, weight: float) -> None:
        super().__init__(big, small)
        self.weight = weight

    def combine(self, *logits_BTV: torch.Tensor) -> torch.Tensor:  # noqa: N803
        big, small = logits_BTV
        return big - self.weight * small


class Assistant(BaseMethod):
    """Train a one-layer assistant to know the forget set and to be flat on the retain set."""

    streams = ("forget", "retain")

    def __init__(self, *, weight: float) -> None:
        self.weight = weight
        self.seen = 0  # rows

    def prepare(self, ctx: PrepareContext) -> None:
        self.seen = sum(len(rows.input_ids_BT) for rows in ctx.batches("forget"))
        config = copy.deepcopy(ctx.model.config)
        config.num_hidden_layers = 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(ctx.seed)
            small = type(ctx.model)(config)
        ctx.model.assistant = small.to(ctx.device, ctx.model.dtype)

    def parameters(self, model: Any) -> list[tuple[str, torch.nn.Parameter]]:
        return [(f"assistant.{name}", weight) for name, weight in model.assistant.named_parameters()]

    def loss(self, model: Any, batch: Batch, reference: Any) -> LossParts:
        logits_NV, _ = scored_logits(model.assistant, batch["retain"])  # noqa: N806
        flat = (logits_NV.logsumexp(-1) - logits_NV.mean(-1)).sum()
        return {
            "forget": cross_entropy(model.assistant, batch["forget"], stream="forget", weight=1.0),
            "retain": LossPart(sum=flat, stream="retain", per="token"),
        }

    def export(self, model: Any, folder: Path) -> None:
        small = model.assistant
        small.save_pretrained(folder / "assistant")
        del model.assistant  # so that the checkpoint is a plain one
        super().export(model, folder)
        model.assistant = small

    def load(self, folder: Path, *, dtype: str, attention: str) -> Any:
        model = super().load(folder, dtype=dtype, attention=attention)
        model.assistant = super().load(folder / "assistant", dtype=dtype, attention=attention)
        return model

    def inference(self, model: Any) -> Difference:
        return Difference(model, model.assistant, weight=self.weight)
