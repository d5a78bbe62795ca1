"""The metrics as torchmetrics, for use inside a training loop and across processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics.exact_memorisation import has_tokens, row_exact_memorisation
from meow_lightning.evaluation.metrics.extraction_strength import row_extraction_strength
from meow_lightning.evaluation.metrics.fluency import Known, row_ended, row_fluency, row_repetition
from meow_lightning.evaluation.metrics.forget_quality import check_same_questions, forget_quality
from meow_lightning.evaluation.metrics.probability import row_normalised_probability, row_probability
from meow_lightning.evaluation.metrics.rouge import row_rouge_1_recall, row_rouge_l_recall
from meow_lightning.evaluation.metrics.truth_ratio import Mean, row_log_truth_ratio, row_truth_ratio
from meow_lightning.evaluation.metrics.value_accuracy import row_value_accuracy
from meow_lightning.types import AnswerRow


class RowMean(Metric):
    """Mean of a per-row value; processes exchange sums and counts, so it is never a mean of means.

    Every row must reach exactly one process: a sampler that pads by repeating rows would count some twice.
    """

    full_state_update = False
    total: torch.Tensor
    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def row_value(self, row: AnswerRow) -> float | None:
        """Value of one row; ``None`` leaves the row out of sum and count.

        Args:
            row: A prediction row.
        """
        raise NotImplementedError

    def update(self, rows: Sequence[AnswerRow]) -> None:
        """Add ``rows`` to the running mean.

        Args:
            rows: Prediction rows of one set.
        """
        values = [value for row in rows if (value := self.row_value(row)) is not None]
        self.total += sum(values)
        self.count += len(values)

    def compute(self) -> torch.Tensor:
        """Mean over all rows of all processes, an fp64 scalar; NaN if no row counted."""
        return self.total / self.count


class Probability(RowMean):
    """Mean probability of the true answers; see :func:`~.probability.row_probability`."""

    def row_value(self, row: AnswerRow) -> float:
        """Probability of one row's true answer."""
        return row_probability(row)


class RougeLRecall(RowMean):
    """Mean ROUGE-L recall of the greedy answers; see :func:`~.rouge.rouge_l_recall`."""

    def row_value(self, row: AnswerRow) -> float | None:
        """ROUGE-L recall of one row's greedy answer."""
        return row_rouge_l_recall(row)


class TruthRatio(RowMean):
    """Truth ratio of a set; see :func:`~.truth_ratio.row_truth_ratio`.

    Args:
        mean: How the wrong answers are averaged.
    """

    def __init__(self, *, mean: Mean) -> None:
        super().__init__()
        self.mean: Mean = mean

    def row_value(self, row: AnswerRow) -> float:
        """Contribution of one row to the truth ratio of its set."""
        return row_truth_ratio(row, mean=self.mean)


class ValueAccuracy(RowMean):
    """Share of the rows with a value whose greedy answer contains it; see :func:`~.value_accuracy.value_accuracy`."""

    def row_value(self, row: AnswerRow) -> float | None:
        """1 if the greedy answer contains the value, else 0; ``None`` for a row without a value."""
        return row_value_accuracy(row)


class NormalisedProbability(RowMean):
    """Mean probability of the true answers among options; see :func:`~.probability.row_normalised_probability`."""

    def row_value(self, row: AnswerRow) -> float:
        """Probability of one row's true answer among its options."""
        return row_normalised_probability(row)


class Rouge1Recall(RowMean):
    """Mean ROUGE-1 recall of the greedy answers; see :func:`~.rouge.rouge_1_recall`."""

    def row_value(self, row: AnswerRow) -> float | None:
        """ROUGE-1 recall of one row's greedy answer."""
        return row_rouge_1_recall(row)


class ExactMemorisation(RowMean):
    """Mean exact memorisation of the true answers; see :func:`~.exact_memorisation.exact_memorisation`."""

    def row_value(self, row: AnswerRow) -> float | None:
        """Compute exact memorisation of one row's true answer; ``None`` without per-token likelihoods."""
        return row_exact_memorisation(row) if has_tokens(row.truth) else None


class ExtractionStrength(RowMean):
    """Mean extraction strength of the true answers; see :func:`~.extraction_strength.extraction_strength`."""

    def row_value(self, row: AnswerRow) -> float | None:
        """Compute extraction strength of one row's true answer; ``None`` without per-token likelihoods."""
        return row_extraction_strength(row) if has_tokens(row.truth) else None


class Fluency(RowMean):
    """Mean fluency of the greedy answers; see :func:`~.fluency.row_fluency`.

    Args:
        known: Known word bigrams of all rows, the same on every process.
    """

    def __init__(self, *, known: Known) -> None:
        super().__init__()
        self.known = known

    def row_value(self, row: AnswerRow) -> float:
        """Fluency of one row's greedy answer."""
        return row_fluency(row, known=self.known)


class Repetition(RowMean):
    """Mean repetition in the greedy answers; see :func:`~.fluency.repetition`."""

    def row_value(self, row: AnswerRow) -> float:
        """Repetition in one row's greedy answer."""
        return row_repetition(row)


class Ended(RowMean):
    """Share of the greedy answers that the model ended itself; see :func:`~.fluency.row_ended`."""

    def row_value(self, row: AnswerRow) -> float | None:
        """1 if the model ended the answer, 0 if the token budget did; ``None`` if unknown."""
        return row_ended(row)


class ForgetQuality(Metric):
    """Forget quality against a retain model's rows; see :func:`~.forget_quality.forget_quality`.

    Args:
        retain: All forget-set rows of the retain model, in order, the same on every process.
        mean: How the wrong answers are averaged.
    """

    full_state_update = False
    index: list[torch.Tensor]
    log_ratio: list[torch.Tensor]

    def __init__(self, *, retain: Sequence[AnswerRow], mean: Mean) -> None:
        super().__init__()
        self.retain = list(retain)
        self.mean: Mean = mean
        self.add_state("index", default=[], dist_reduce_fx="cat")
        self.add_state("log_ratio", default=[], dist_reduce_fx="cat")

    def update(self, rows: Sequence[AnswerRow]) -> None:
        """Add ``rows`` of the forget set, in any order.

        Args:
            rows: Prediction rows; each ``index`` exactly once over all processes.

        Raises:
            UserError: The retain model has no predictions on these questions.
        """
        retain = [self.retain[row.index] for row in rows if row.index < len(self.retain)]
        check_same_questions(rows, retain, names=("evaluated", "retain"))
        ratios = [row_log_truth_ratio(row, mean=self.mean) for row in rows]
        self.index.append(torch.tensor([row.index for row in rows], dtype=torch.int64, device=self.device))
        self.log_ratio.append(torch.tensor(ratios, dtype=torch.float64, device=self.device))

    def compute(self) -> dict[str, torch.Tensor]:
        """Scalars ``p``, ``log10_p``, ``distance`` and ``rows``, fp64.

        Raises:
            UserError: A question was added twice or not at all.
        """
        # a process without rows contributes an empty fp32 tensor, which would turn the gathered indices into floats
        index = (dim_zero_cat(self.index) if len(self.index) else torch.zeros(0)).long()
        if sorted(index.tolist()) != list(range(len(self.retain))):
            raise UserError(
                f"{index.numel()} rows of {index.unique().numel()} questions were added, the retain model has "
                f"{len(self.retain)} questions: expected each once; do not pad or drop rows between processes"
            )
        retain = [row_log_truth_ratio(self.retain[position], mean=self.mean) for position in index.tolist()]
        result = forget_quality(dim_zero_cat(self.log_ratio).tolist(), retain)
        numbers = {"p": result.p, "log10_p": result.log10_p, "distance": result.distance, "rows": float(result.rows)}
        return {name: torch.tensor(number, dtype=torch.float64) for name, number in numbers.items()}
