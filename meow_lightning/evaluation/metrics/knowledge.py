"""Prior knowledge: does the target model know the forget facts, compared with a model that cannot know them?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from meow_lightning.evaluation.answers import Answers, MetricSettings
from meow_lightning.evaluation.metric import Outcome, RowMetric, RowValues, RunMetric, mean_of
from meow_lightning.evaluation.metrics.probability import Probability
from meow_lightning.evaluation.metrics.rouge import RougeLRecall, rouge_l_recall
from meow_lightning.evaluation.metrics.value_accuracy import ValueAccuracy, row_value_accuracy
from meow_lightning.types import AnswerRow, Definition, SetInfo

if TYPE_CHECKING:
    from meow_lightning.evaluation.suite.bootstrap import Bootstrap, Floats

KINDS: tuple[RowMetric, ...] = (RougeLRecall(), Probability())
"""Forget-set metrics used where no values are marked; the repeated question has only the first."""


def gain(known: float, other: float) -> float | None:
    """Compute the normalised gain ``(known - other) / (1 - other)``; ``None`` if ``other`` is 1.

    Args:
        known: Mean over the questions, 0 to 1, of the model that should know the facts.
        other: The same mean of a model that cannot know them, on the same questions.
    """
    return None if other >= 1 else (known - other) / (1 - other)


def echo(rows: Iterable[AnswerRow]) -> list[float]:
    """Compute ROUGE-L recall of each question taken as the answer: the score of a model that repeats the question.

    Args:
        rows: Prediction rows.
    """
    return [rouge_l_recall(row.answer, row.question) for row in rows]


def echoed_values(rows: Iterable[AnswerRow]) -> list[float | None]:
    """Compute value accuracy of each question to forget taken as the answer; ``None`` where no value is marked.

    Args:
        rows: Prediction rows.
    """
    return [row_value_accuracy(replace(row, text=row.question), forgotten=True) for row in rows]


class FactsKnown(RunMetric):
    """The largest gain of the target model over one that cannot know the facts."""

    name = "facts_known"

    def definitions(self, sets: Sequence[SetInfo], settings: MetricSettings) -> list[Definition]:
        """Define the share of the facts that is known."""
        return [
            Definition(
                name=self.name, id="facts_known.1", unit="share", direction="none", order=100,
                label="share of the facts that is known", main=True,
                text="Share of the learnable part of the forget set's answers that the model has learned: (t - o) / "
                "(1 - o), with t the model's mean over the questions and o that of the retain model, which was not "
                "trained on them (without one, that of the question repeated as the answer); by value accuracy where "
                "values are marked, else by ROUGE-L recall or by the probability of the true answers, whichever is "
                "larger. 1 is all, 0 nothing; below 0 the other model knows more.",
            )
        ]  # fmt: skip

    def outcomes(self, answers: Answers, role: str, numbers: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Compute the largest gain over the metrics that apply."""
        return {self.name: self._outcome(answers, role)}

    def samples(
        self, answers: Answers, role: str, bootstrap: Bootstrap, drawn: Mapping[str, Floats]
    ) -> dict[str, Floats]:
        """Compute the largest gain in each bootstrap sample, on the same questions of both models."""
        import numpy as np

        forget = answers.of_purpose("forget")
        if role != "target" or answers.missing_reason(role, forget):
            return {}
        gains = []
        for pair in knowledge_pairs(answers):
            sides = (None if isinstance(values, str) else bootstrap.means(forget, values) for values in pair)
            known, ignorant = sides
            if known is not None and ignorant is not None:
                with np.errstate(divide="ignore", invalid="ignore"):  # samples in which the ignorant model is perfect
                    gains.append((known - ignorant) / (1 - ignorant))
        if not gains:
            return {}
        largest = np.max(np.stack(gains), axis=0)
        return {self.name: np.where(np.isfinite(largest), largest, np.nan)}

    def _outcome(self, answers: Answers, role: str) -> Outcome:
        if reason := answers.missing_reason(role, answers.of_purpose("forget")):
            return reason
        if role != "target":
            return "it is measured on the target model only, before unlearning"
        gains = []
        for pair in knowledge_pairs(answers):
            target, ignorant = (values if isinstance(values, str) else mean_of(values) for values in pair)
            if not isinstance(target, str) and not isinstance(ignorant, str):
                gains.append(gain(target, ignorant))
        defined = [each for each in gains if each is not None]
        if not defined:
            return "the model to compare with gives every true answer, or could not be measured"
        return max(defined)


def knowledge_pairs(answers: Answers) -> list[tuple[RowValues, RowValues]]:
    """Pair per-question values of the target model and of one that cannot know the facts, for each knowledge metric.

    Args:
        answers: Answers of all models, among them the target model's to the forget set.
    """
    forget = next(info for info in answers.present if info.purpose == "forget")

    def values(role: str, metric: RowMetric) -> RowValues:
        return metric.row_values(answers, role, forget)

    rows, marked = answers.sets["target"][forget.name], values("target", ValueAccuracy())
    if answers.missing_reason("retain", forget.name):
        if not isinstance(marked, str):
            return [(marked, echoed_values(rows))]
        return [(values("target", RougeLRecall()), list(echo(rows)))]
    metrics = KINDS if isinstance(marked, str) else (ValueAccuracy(),)
    return [(values("target", metric), values("retain", metric)) for metric in metrics]
