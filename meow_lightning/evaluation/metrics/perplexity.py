"""Perplexity of texts that no model was trained on: how well a model predicts language in general."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from meow_lightning.evaluation.answers import Answers, MetricSettings, unmet_need
from meow_lightning.evaluation.metric import SET_ORDER, Metric, Outcome, finite
from meow_lightning.evaluation.metrics.probability import mean_logp
from meow_lightning.types import AnswerRow, Definition, SetInfo


def perplexity(rows: Sequence[AnswerRow]) -> float:
    """Compute ``exp(-sum of log p / number of tokens)`` over the scored tokens of all rows, 1 or more.

    Every token weighs the same. Published code of BalancedSubnet averages exp(loss) over batches, which depends on the
    batches and is larger.

    Args:
        rows: Prediction rows, at least one with a scored token.
    """
    logps = [logp for row in rows for logp in row.truth.logps]
    try:
        return math.exp(-mean_logp(logps))
    except OverflowError:
        return math.inf


class Perplexity(Metric):
    """:func:`perplexity` of every utility set without options, named ``<set>/perplexity``."""

    needs = frozenset({"tokens"})

    def reads(self, sets: Sequence[SetInfo]) -> list[SetInfo]:
        """Select the utility sets whose texts are scored alone."""
        return [info for info in sets if info.purpose == "utility" and info.scoring == "free"]

    def definitions(self, sets: Sequence[SetInfo], settings: MetricSettings) -> list[Definition]:
        """Define the number of each of these sets."""
        read = self.reads(sets)
        return [
            Definition(
                name=f"{info.name}/perplexity", id="perplexity.1", unit="ratio", direction="lower",
                text="exp of the mean of -log p over all tokens of the set's answers, end tokens included.",
                label=f"{info.name.replace('_', ' ')} perplexity", order=position * SET_ORDER + 5, main=False,
            )
            for position, info in enumerate(sets, start=1) if info in read
        ]  # fmt: skip

    def outcomes(self, answers: Answers, role: str, numbers: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Compute the number of each of these sets, or the reason why it is missing."""
        found: dict[str, Outcome] = {}
        for info in self.reads(answers.present):
            reason = unmet_need(answers, role, info.name, self.needs)
            found[f"{info.name}/perplexity"] = reason or finite(perplexity(answers.sets[role][info.name]))
        return found
