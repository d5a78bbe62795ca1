"""ROUGE-L recall of the generated answer against a question's other answers: its paraphrase, and its wrong answers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metric import RowMetric
from meow_lightning.evaluation.metrics.rouge import rouge_l_recall
from meow_lightning.types import AnswerRow, SetInfo


def mean_rouge_l_recall(references: Sequence[str], text: str, context: RowContext) -> float | None:
    """Compute the mean ROUGE-L recall of several answers in a generated one, 0 to 1; ``None`` if there are none.

    Source: ``forget_Q_A_PARA_ROUGE`` and ``forget_Q_A_PERT_ROUGE`` of open-unlearning.

    Args:
        references: The answers.
        text: The generated answer.
        context: How words are split.
    """
    scores = [rouge_l_recall(answer, text, kind=context.settings.words) for answer in references]
    return statistics.fmean(scores) if scores else None


class ParaphraseRouge(RowMetric):
    """Mean ROUGE-L recall against the paraphrased answer: knowledge in other words than those of training."""

    name = "paraphrase_rouge_l_recall"
    id = "paraphrase_rouge_l_recall.1"
    direction = "higher"
    direction_when_forgotten = "lower"
    text = "Mean over the questions of the ROUGE-L recall of the greedy answer against the paraphrased true answer."
    label = "ROUGE-L recall of the paraphrase"
    order = 62
    needs = frozenset({"texts"})
    optional = True

    def applies(self, info: SetInfo) -> bool:
        """Whether the set has paraphrased answers."""
        return info.scoring != "options" and info.purpose != "holdout"

    def value(self, row: AnswerRow, context: RowContext) -> float | None:
        """Compute the recall of one row, 0 to 1; ``None`` if its question has no paraphrased answer."""
        paraphrase = context.examples[row.fact].paraphrase
        return mean_rouge_l_recall([] if paraphrase is None else [paraphrase], row.text, context)


class PerturbedRouge(RowMetric):
    """Mean ROUGE-L recall against the wrong answers, a question's mean first: what is said in their place."""

    name = "perturbed_rouge_l_recall"
    id = "perturbed_rouge_l_recall.1"
    direction = "lower"
    direction_when_forgotten = "none"
    text = "Mean over the questions of the mean ROUGE-L recall of the greedy answer against the wrong answers."
    label = "ROUGE-L recall of the wrong answers"
    order = 64
    needs = frozenset({"texts", "wrong_answers"})
    optional = True

    def applies(self, info: SetInfo) -> bool:
        """Whether the set has wrong answers."""
        return info.purpose != "holdout"

    def value(self, row: AnswerRow, context: RowContext) -> float | None:
        """Compute the mean recall of one row, 0 to 1."""
        return mean_rouge_l_recall(context.examples[row.fact].perturbed, row.text, context)
