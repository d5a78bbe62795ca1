"""Model utility: harmonic mean of metrics off the forget set (TOFU, Maini et al. 2024, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import Answers, MetricSettings
from meow_lightning.evaluation.metric import Outcome, RunMetric
from meow_lightning.evaluation.metrics.truth_ratio import with_mean
from meow_lightning.types import Definition, SetInfo

if TYPE_CHECKING:
    from meow_lightning.evaluation.suite.bootstrap import Bootstrap, Floats

PARTS = ("probability", "rouge_l_recall", "truth_ratio")
"""The metrics of each set that model utility averages."""


def utility_inputs(benchmark: Sequence[SetInfo]) -> tuple[str, ...]:
    """Name the metrics that model utility averages: three of every set that is to be kept; none of the forget set.

    Args:
        benchmark: The sets that the benchmark names; nine metrics for TOFU's.
    """
    kept = [info.name for info in benchmark if info.purpose in ("retain", "utility")]
    return tuple(f"{name}/{part}" for name in kept for part in PARTS)


def model_utility(inputs: Sequence[float]) -> float:
    """Compute the harmonic mean ``N / sum_i 1/x_i``, 0 to 1; one zero makes it 0.

    Args:
        inputs: The N metrics of :func:`utility_inputs`, each 0 to 1.

    Raises:
        UserError: There are none.
    """
    if not inputs:
        raise UserError("model utility expects at least 1 metric, given 0: evaluate a retain or utility set too")
    if 0.0 in inputs:
        return 0.0
    return len(inputs) / sum(1.0 / number for number in inputs)


class ModelUtility(RunMetric):
    """:func:`model_utility` of a model."""

    name = "model_utility"

    def definitions(self, sets: Sequence[SetInfo], settings: MetricSettings) -> list[Definition]:
        """Define model utility, naming the mean of the truth ratio."""
        definition = Definition(
            name=self.name, id="model_utility.1", unit="share", direction="higher", label="model utility", order=50,
            text="Harmonic mean of probability, ROUGE-L recall and truth ratio on retain set, real authors and world "
            "facts.", main=True,
        )  # fmt: skip
        return [with_mean(definition, settings.truth_ratio_mean)]

    def outcomes(self, answers: Answers, role: str, numbers: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Average the metrics of the sets to be kept; all sets that the benchmark names are needed."""
        return {self.name: self._outcome(answers, role, numbers)}

    def samples(
        self, answers: Answers, role: str, bootstrap: Bootstrap, drawn: Mapping[str, Floats]
    ) -> dict[str, Floats]:
        """Average the inputs' samples, so that they move together."""
        inputs = [drawn.get(name) for name in utility_inputs(answers.benchmark)]
        present = [samples for samples in inputs if samples is not None]
        return {self.name: bootstrap.harmonic_mean(present)} if inputs and len(present) == len(inputs) else {}

    def _outcome(self, answers: Answers, role: str, numbers: Mapping[str, Outcome]) -> Outcome:
        if reason := answers.missing_reason(role, None):
            return reason
        inputs = utility_inputs(answers.benchmark)
        if not inputs:
            return "the benchmark names no set whose knowledge is to be kept"
        missing = [name for name in inputs if isinstance(numbers.get(name, ""), str)]
        if missing:
            count = "nine" if len(inputs) == 9 else len(inputs)
            return f"it combines {count} metrics, of which these are missing: {', '.join(missing)}"
        return model_utility([float(numbers[name]) for name in inputs])
