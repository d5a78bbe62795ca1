"""The evaluation while a model is trained: a curve, and on request the weights of the best epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from safetensors.torch import load_file, save_file

from meow_lightning.callbacks.curve import Curve
from meow_lightning.data.prompts import Codec
from meow_lightning.durable import checked_line, checked_lines, replace, sync
from meow_lightning.evaluation.answer import Question, answer
from meow_lightning.evaluation.suite import evaluate
from meow_lightning.evaluation.validation import Epoch, better, epoch
from meow_lightning.memo.room import Room
from meow_lightning.parallel import gathered, mine
from meow_lightning.types import AnswerRow, Results

WATCHED = (
    "model_utility", "forget_quality_log10", "forget/probability", "forget/rouge_l_recall", "forget/truth_ratio",
    "forget/value_accuracy", "retain/rouge_l_recall", "retain/value_accuracy",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How answers are made and counted.

    Attributes:
        max_new_tokens: Budget of an answer.
        batch: Rows per forward pass when scoring.
        slots: Prompts generated side by side.
        truth_ratio_mean: ``geometric`` or ``arithmetic``.
    """

    max_new_tokens: int
    batch: int
    slots: int | Room
    truth_ratio_mean: str


class EvaluationCurve(Curve):
    """Logs what the evaluation says of the model in training, as ``evaluation/<number>``, and the seconds it took.

    Several processes share the questions.

    Args:
        codec: The model's prompts and tokens.
        questions: What is asked, every set numbered from 0.
        retain: What the retain model answered to them; empty where that is not known, and then nothing is compared.
        every: Steps between two points, 1 or more.
        how: How answers are made and counted.
        best: Where the best epoch's weights go; ``None`` to keep none.
    """

    def __init__(
        self, *, codec: Codec, questions: Sequence[Question], retain: Sequence[AnswerRow], every: int, how: How,
        best: Best | None,
    ) -> None:  # fmt: skip
        super().__init__(name="evaluation", every=every)
        self.codec, self.questions, self.retain, self.how, self.best = codec, list(questions), list(retain), how, best

    def values(self, model: torch.nn.Module, trainer: pl.Trainer) -> dict[str, float]:
        """Numbers of the evaluation; the best epoch's weights are kept on the way."""
        results = self._results(gathered(self._answers(model)))
        if self.best is not None and trainer.global_step and trainer.is_global_zero:
            found = epoch(results, step=trainer.global_step)
            if found is not None:
                self.best.offer(found, model)
        numbers = results.values["unlearned"]
        return {name: numbers[name] for name in WATCHED if name in numbers}

    def _answers(self, model: torch.nn.Module) -> list[AnswerRow]:
        share = mine(self.questions)
        if not share:
            return []
        how = self.how
        made = answer(
            model, self.codec, share, max_new_tokens=how.max_new_tokens, batch=how.batch, slots=how.slots,
            gradients=(), progress=None,
        )  # fmt: skip
        return list(made)

    def _results(self, rows: Sequence[AnswerRow]) -> Results:
        by_role = {"unlearned": list(rows)} | ({"retain": self.retain} if self.retain else {})
        return evaluate(by_role, {}, truth_ratio_mean=self.how.truth_ratio_mean)


@dataclass(frozen=True, slots=True)
class Best:
    """The weights of the best epoch so far, in a folder that outlives a killed run.

    Attributes:
        folder: Where they lie.
    """

    folder: Path

    def epoch(self) -> Epoch | None:
        """The epoch whose weights lie here; ``None`` while there are none."""
        rows = checked_lines(self.folder / "best.json").rows
        return Epoch(**rows[0]["epoch"]) if rows else None

    def damaged(self) -> bool:
        """Whether something lies here that is not what was kept, so that earlier epochs cannot be chosen any more."""
        weights = sorted(self.folder.glob("best-*.safetensors"))
        rows, damaged = checked_lines(self.folder / "best.json")
        if damaged or not rows:
            return bool(weights) or (self.folder / "best.json").exists()
        path = self.weights(Epoch(**rows[0]["epoch"]))
        return path not in weights or _digest(path) != rows[0]["sha256"]

    def offer(self, new: Epoch, model: torch.nn.Module) -> None:
        """Keep the trainable weights of a model where its epoch is better than the best so far.

        Args:
            new: What the model in training is.
            model: The model.
        """
        if not better(new, self.epoch()):
            return
        weights = {name: each.detach().cpu().contiguous() for name, each in trained(model).items()}
        # Weights are found by the step in their name, so that a kill in between leaves the former pair whole.
        save_file(weights, self.weights(new))
        sync([self.weights(new)])
        told = self.folder / "best.new"
        told.write_text(checked_line({"epoch": asdict(new), "sha256": _digest(self.weights(new))}), encoding="utf-8")
        replace(told, self.folder / "best.json")
        for path in self.folder.glob("best-*.safetensors"):
            if path != self.weights(new):
                path.unlink()

    def put(self, model: torch.nn.Module) -> Epoch | None:
        """The best epoch, after its weights are put into a model; ``None`` where there is none.

        Args:
            model: The trained model.
        """
        chosen = self.epoch()
        if chosen is not None:
            kept = load_file(self.weights(chosen))
            with torch.no_grad():
                for name, each in trained(model).items():
                    each.copy_(kept[name])
        return chosen

    def weights(self, chosen: Epoch) -> Path:
        """Where the weights of an epoch lie."""
        return self.folder / f"best-{chosen.step}.safetensors"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The trainable weights of a model by name; tied ones once.

    Args:
        model: A model.
    """
    return {name: each for name, each in model.named_parameters() if each.requires_grad}
