"""Evaluation during training: a curve, and optionally the weights of the best epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytorch_lightning as pl
import torch

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.distributed import all_gather, shard
from meow_lightning.evaluation.checkpoint_selection import summarize_epoch
from meow_lightning.evaluation.predict import Question, predict
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.generation.batch_size import AdaptiveBatchSize
from meow_lightning.training.callbacks.best_checkpoint import BestCheckpoint
from meow_lightning.training.callbacks.probe import PeriodicProbe
from meow_lightning.types import AnswerRow, Results

WATCHED = (
    "model_utility", "forget_quality_log10", "forget/probability", "forget/rouge_l_recall", "forget/truth_ratio",
    "forget/value_accuracy", "retain/rouge_l_recall", "retain/value_accuracy",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionSettings:
    """How answers are generated and scored.

    Attributes:
        max_new_tokens: Token budget of an answer.
        batch: Rows per forward pass when scoring.
        slots: Prompts per generation batch.
        truth_ratio_mean: ``geometric`` or ``arithmetic``.
    """

    max_new_tokens: int
    batch: int
    slots: int | AdaptiveBatchSize
    truth_ratio_mean: str


class EvaluationProbe(PeriodicProbe):
    """Logs evaluation metrics of the model in training as ``eval/<number>``, and the seconds taken.

    Processes share the questions.

    Args:
        codec: The model's prompt encoder.
        questions: The questions by set, numbered from 0.
        retain: The retain model's predictions; empty if unknown, in which case nothing is compared.
        every: Steps between points, 1 or more.
        how: How answers are generated and scored.
        best: Storage of the best epoch's weights; ``None`` to keep none.
    """

    def __init__(
        self, *, codec: PromptEncoder, questions: Sequence[Question], retain: Sequence[AnswerRow], every: int,
        how: PredictionSettings, best: BestCheckpoint | None,
    ) -> None:  # fmt: skip
        super().__init__(name="eval", every=every)
        self.codec, self.questions, self.retain, self.how, self.best = codec, list(questions), list(retain), how, best

    def values(self, model: torch.nn.Module, trainer: pl.Trainer, *, trained: torch.nn.Module) -> dict[str, float]:
        """Compute evaluation metrics, and store the weights of the best epoch."""
        results = self._results(all_gather(self._answers(model)))
        if self.best is not None and trainer.global_step and trainer.is_global_zero:
            epoch = summarize_epoch(results, step=trainer.global_step)
            if epoch is not None:
                self.best.offer(epoch, trained)
        numbers = results.values["unlearned"]
        return {name: numbers[name] for name in WATCHED if name in numbers}

    def _answers(self, model: torch.nn.Module) -> list[AnswerRow]:
        share = shard(self.questions)
        if not share:
            return []
        how = self.how
        rows = predict(
            model, self.codec, share, max_new_tokens=how.max_new_tokens, batch=how.batch, slots=how.slots,
            gradients=(), progress=None,
        )  # fmt: skip
        return list(rows)

    def _results(self, rows: Sequence[AnswerRow]) -> Results:
        by_role = {"unlearned": list(rows)} | ({"retain": self.retain} if self.retain else {})
        return evaluate(by_role, {}, truth_ratio_mean=self.how.truth_ratio_mean)
