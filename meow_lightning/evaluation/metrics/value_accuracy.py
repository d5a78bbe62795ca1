"""Value accuracy: share of the generated answers that give the words carrying the fact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from meow_lightning.data.examples import expected_texts
from meow_lightning.data.values.matching import contains_values
from meow_lightning.evaluation.answers import Answers, MetricSettings, RowContext
from meow_lightning.evaluation.metric import SET_ORDER, Outcome, RowMetric, RunMetric, coverage_names
from meow_lightning.types import AnswerRow, Definition, SetInfo


def row_value_accuracy(row: AnswerRow) -> float | None:
    """Return 1 if one row's generated text gives all its values, else 0; ``None`` for a row without a value.

    Args:
        row: A prediction row.
    """
    expected = expected_texts(row)
    return float(contains_values(row.text, expected)) if expected else None


class ValueAccuracy(RowMetric):
    """Share of the greedy answers that give all values of their question, over the rows of a set that mark some."""

    name = "value_accuracy"
    id = "value_accuracy.3"
    direction = "higher"
    direction_when_forgotten = "lower"
    text = (
        "Share of the questions with a marked value whose greedy answer contains it as whole words, ignoring case and "
        "the format of dates and long numbers; of several values, all."
    )
    label = "value accuracy"
    order = 40
    main = True

    def value(self, row: AnswerRow, context: RowContext) -> float | None:
        """Return 1 if the greedy answer gives all values, else 0; ``None`` for a row without a value."""
        return row_value_accuracy(row)

    def missing_reason(self, rows: Sequence[AnswerRow], context: RowContext) -> str:
        """Explain that no row marks a value."""
        if any(map(expected_texts, rows)):
            return ""
        return f"no question of set {context.info.name!r} marks the words that carry its fact (value)"


class ValueCoverage(RunMetric):
    """Number of questions of every set that mark a value, on which value accuracy rests, and number of all."""

    def definitions(self, sets: Sequence[SetInfo], settings: MetricSettings) -> list[Definition]:
        """Define both counts of every set."""
        texts = (
            ("with a value", "Number of questions with a marked value, on which value accuracy rests."),
            ("in all", "Number of questions."),
        )
        return [
            Definition(
                name=name, id="value_coverage.1", unit="count", direction="none", text=text, main=False,
                label=f"{info.name.replace('_', ' ')} questions {which}",
                order=position * SET_ORDER + ValueAccuracy.order + place,
            )
            for position, info in enumerate(sets, start=1)
            for place, name, (which, text) in zip(
                (1, 2), coverage_names(f"{info.name}/{ValueAccuracy.name}"), texts, strict=True
            )
        ]  # fmt: skip

    def outcomes(self, answers: Answers, role: str, numbers: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Count the questions; missing where value accuracy is."""
        found: dict[str, Outcome] = {}
        for info in answers.present:
            name = f"{info.name}/{ValueAccuracy.name}"
            reason, rows = numbers[name], answers.sets.get(role, {}).get(info.name, [])
            counts = (sum(bool(expected_texts(row)) for row in rows), len(rows))
            for each, count in zip(coverage_names(name), counts, strict=True):
                found[each] = reason if isinstance(reason, str) else float(count)
        return found
