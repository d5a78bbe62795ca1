"""Typed options of what is measured: ``evaluation`` and ``ability``."""

from __future__ import annotations

from typing import Annotated, Literal

from meow_lightning.config.options import Options, consistency
from meow_lightning.config.ranges import Count, Number, Range, Threshold
from meow_lightning.errors import invalid_option


class Evaluation(Options):
    """``evaluation``: the metrics, and how they are computed."""

    name: str
    """Name of the choice."""
    protocol: Literal["none", "tofu", "open_unlearning"]
    """The code base whose definitions are followed, including their defects; ``none`` for ours."""
    truth_ratio_mean: Literal["geometric", "arithmetic"]
    """Mean of the truth ratio."""
    max_new_tokens: Count
    """Maximum tokens of a greedy answer."""
    gradient_norm: bool
    """Whether gradients of the true answers are computed, for a membership attack."""
    selection_fraction: Threshold
    """Fraction of every set that only selects an epoch."""
    bootstrap_samples: Annotated[int, Range(1, 10**7)]
    """Bootstrap resamples of the intervals."""
    confidence_level: Annotated[Number, Range(0, 1, above=True, below=True)]
    """Confidence level of the intervals."""
    retain_predictions: str | None
    """Log of a model that never saw the forget set, instead of a retain model."""
    extra_metrics: list[str]
    """Optional metrics to compute, by name."""

    @consistency
    def _check_mean(self) -> None:
        if self.protocol == "open_unlearning" and self.truth_ratio_mean != "geometric":
            only = "geometric, the mean of evaluation.protocol=open_unlearning (evaluation.protocol=none allows others)"
            raise invalid_option("evaluation.truth_ratio_mean", self.truth_ratio_mean, only, did_you_mean="geometric")


class Ability(Options):
    """``ability``: tasks of general ability, of lm-evaluation-harness or our own."""

    name: str
    """Name of the choice."""
    tasks: list[str]
    """Tasks by name: those of ``local``, and any other of lm-evaluation-harness."""
    limit: Count | None
    """Maximum number of questions per task; null for all."""
    num_fewshot: Annotated[int, Range(0, 1000)] | None
    """Solved examples before each question; null as the task says."""
    folder: str | None
    """Folder of the files that ``local`` names; null for the environment variable ``MEOW_DATA_DIR``."""
    local: dict[str, dict]
    """Definitions of tasks whose questions are in local files, by name."""
