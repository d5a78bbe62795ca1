"""The contract of a metric: what a file of ``evaluation/metrics/`` holds, and what it may read.

A metric is a class: :class:`RowMetric` where every row of a set has a value, of which the mean is reported, or
:class:`RunMetric` where numbers follow from several sets or models. The suite is all classes of the folder, so nothing
else names them: definitions, tables, figures, intervals and what the stage ``predict`` computes follow from the class.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from meow_lightning.evaluation.answers import Answers, MetricSettings, Need, RowContext, row_has, unmet_need
from meow_lightning.types import AnswerRow, Definition, Direction, SetInfo

if TYPE_CHECKING:
    from torchmetrics import Metric as TorchMetric

    from meow_lightning.evaluation.suite.bootstrap import Bootstrap, Floats

Outcome = float | str
"""A number, or the reason why it is missing."""

RowValues = list[float | None] | str
"""Contribution of each row to a number (``None``: the row does not count), or the reason why it is missing."""

SET_ORDER = 1_000
"""Distance of the places of two sets in tables; numbers of whole runs that come before the sets have places below."""

AFTER_SETS = 1_000_000
"""First place in tables after all sets."""


_COVERAGE = ("_covered", "_out_of")


def coverage_names(name: str) -> tuple[str, str]:
    """Name two counts that stand beside a number in tables: the questions on which it rests, and all of its set.

    Args:
        name: Name of the number.
    """
    covered, total = (name + ending for ending in _COVERAGE)
    return covered, total


def is_coverage(name: str) -> bool:
    """Whether a number is one of the counts of :func:`coverage_names`."""
    return name.endswith(_COVERAGE)


class Metric(ABC):
    """One or more numbers of a model, computed from stored rows.

    Attributes:
        needs: What the rows that it reads must hold besides texts and mean losses; ``predict`` computes what is
            expensive only for sets that some metric needs it of.
        from_predictions: Whether the numbers follow from prediction rows, and thus from the evaluation protocol.
        optional: Whether the numbers are computed only if ``evaluation.extra_metrics`` names them; then the class has a
            ``name``.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    from_predictions: ClassVar[bool] = True
    optional: ClassVar[bool] = False

    @abstractmethod
    def reads(self, sets: Sequence[SetInfo]) -> list[SetInfo]:
        """Select the sets that the metric reads.

        Args:
            sets: The available sets.
        """

    @abstractmethod
    def definitions(self, sets: Sequence[SetInfo], settings: MetricSettings) -> list[Definition]:
        """Define the numbers.

        Args:
            sets: The available sets, in reporting order.
            settings: How numbers are computed.
        """

    @abstractmethod
    def outcomes(self, answers: Answers, role: str, numbers: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Compute the defined numbers of one model by name, each a number or the reason why it is missing.

        Args:
            answers: Answers of all models.
            role: Role of the model.
            numbers: The outcomes of every :class:`RowMetric` on this model.
        """

    def samples(
        self, answers: Answers, role: str, bootstrap: Bootstrap, drawn: Mapping[str, Floats]
    ) -> dict[str, Floats]:
        """Draw bootstrap samples of the numbers that get a confidence interval, each (samples,); none by default.

        Args:
            answers: Answers of all models.
            role: Role of the model.
            bootstrap: The samples of every set's rows.
            drawn: The samples of every :class:`RowMetric` on this model.
        """
        return {}

    def share_rows(self, answers: Answers, role: str, names: Collection[str]) -> dict[str, RowValues]:
        """Compute the rows of the shares among some numbers, for intervals of those that no or every row has.

        Args:
            answers: Answers of all models.
            role: Role of the model.
            names: Names of the numbers; values of rows are not always cheap.
        """
        return {}


class RowMetric(Metric):
    """Mean over the questions of a set, for every set to which the metric applies; named ``<set>/<name>``.

    Attributes:
        name: Name of the number within its set.
        id: See :class:`~meow_lightning.types.Definition`.
        unit: Unit of the number.
        direction: Which values are better on sets whose knowledge is to be kept.
        direction_when_forgotten: Which values are better on the forget set; ``None``: as elsewhere.
        text: The definition in words.
        label: Short readable name, without the set's.
        order: Place among the numbers of a set, 0 to 999.
        main: Whether it is one of the main numbers, which get confidence intervals.
    """

    name: ClassVar[str]
    id: ClassVar[str]
    unit: ClassVar[str] = "share"
    direction: ClassVar[Direction]
    direction_when_forgotten: ClassVar[Direction | None] = None
    text: ClassVar[str]
    label: ClassVar[str]
    order: ClassVar[int]
    main: ClassVar[bool] = False

    @abstractmethod
    def value(self, row: AnswerRow, context: RowContext) -> float | None:
        """Compute the value of one row; ``None`` leaves the row out.

        Args:
            row: A prediction row.
            context: Its set and model, and how numbers are computed.
        """

    def applies(self, info: SetInfo) -> bool:
        """Whether the metric is measured on a set; on every set by default.

        Args:
            info: The set.
        """
        return True

    def missing_reason(self, rows: Sequence[AnswerRow], context: RowContext) -> str:
        """Explain why the rows have no values for another reason than :attr:`needs`; empty if they have, the default.

        Args:
            rows: All rows of a set.
            context: The set and its model, and how numbers are computed.
        """
        return ""

    def definition(self, info: SetInfo, settings: MetricSettings) -> Definition:
        """Define the number of one set; its place in tables is that within the set.

        Args:
            info: The set.
            settings: How numbers are computed.
        """
        forgotten = self.direction_when_forgotten if info.purpose == "forget" else None
        return Definition(
            name=f"{info.name}/{self.name}", id=self.id, unit=self.unit,
            # neither direction is better on texts that no model was trained on
            direction="none" if info.purpose == "holdout" else forgotten or self.direction,
            text=self.text, label=f"{info.name.replace('_', ' ')} {self.label}", order=self.order,
            main=self.main and info.purpose != "holdout",
        )  # fmt: skip

    def row_values(self, answers: Answers, role: str, info: SetInfo) -> RowValues:
        """Compute the value of each row of a set in order, or the reason why they are missing.

        Args:
            answers: Answers of all models.
            role: Role of the model.
            info: The set.
        """
        context = answers.context(role, info)
        if reason := unmet_need(answers, role, info.name, self.needs):
            return reason
        rows = answers.sets[role][info.name]
        if reason := self.missing_reason(rows, context):
            return reason
        formula = context.settings.formulas.row_values.get(self.name)
        compute = (lambda row: self.value(row, context)) if formula is None else (lambda row: formula(row, info))
        return [compute(row) if row_has(row, self.needs) else None for row in rows]

    def torchmetric(self, context: RowContext) -> TorchMetric:
        """Build the metric as a torchmetrics class, for use inside a training loop and across processes.

        Rows that lack what the metric needs are left out.

        Args:
            context: The set and model of the rows that will be added, and how numbers are computed.
        """
        from meow_lightning.evaluation.torchmetric import RowMean

        def has_texts(row: AnswerRow) -> bool:
            return "texts" not in self.needs or row.fact in context.examples

        return RowMean(
            lambda row: self.value(row, context) if row_has(row, self.needs) and has_texts(row) else None
        )  # fmt: skip

    def reads(self, sets: Sequence[SetInfo]) -> list[SetInfo]:
        """Select the sets to which the metric applies."""
        return [info for info in sets if self.applies(info)]

    def definitions(self, sets: Sequence[SetInfo], settings: MetricSettings) -> list[Definition]:
        """Define the number of every set to which the metric applies."""
        named = []
        for position, info in enumerate(sets, start=1):
            if self.applies(info):
                definition = self.definition(info, settings)
                named.append(dataclasses.replace(definition, order=position * SET_ORDER + definition.order))
        return named

    def outcomes(self, answers: Answers, role: str, numbers: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Average the rows of every set to which the metric applies."""
        found: dict[str, Outcome] = {}
        for info in self.reads(answers.present):
            values = self.row_values(answers, role, info)
            found[f"{info.name}/{self.name}"] = values if isinstance(values, str) else mean_of(values)
        return found

    def share_rows(self, answers: Answers, role: str, names: Collection[str]) -> dict[str, RowValues]:
        """Compute the rows of every set whose number is among the names, if the metric is a share."""
        read = self.reads(answers.present) if self.unit == "share" else ()
        named = {f"{info.name}/{self.name}": info for info in read}
        return {name: self.row_values(answers, role, info) for name, info in named.items() if name in names}

    def samples(
        self, answers: Answers, role: str, bootstrap: Bootstrap, drawn: Mapping[str, Floats]
    ) -> dict[str, Floats]:
        """Average the rows of every set in each bootstrap sample, if the metric is a main one."""
        found = {}
        for info in self.reads(answers.present) if self.main else ():
            values = self.row_values(answers, role, info)
            samples = None if isinstance(values, str) else bootstrap.means(info.name, values)
            if samples is not None:
                found[f"{info.name}/{self.name}"] = samples
        return found


class RunMetric(Metric):
    """Numbers that follow from several sets or models, or from other numbers."""

    def reads(self, sets: Sequence[SetInfo]) -> list[SetInfo]:
        """Select no sets: only metrics that need something of :data:`~.answers.Need` say which."""
        return []


def finite(value: float) -> Outcome:
    """Return ``value`` if it is finite, else the reason why it is not reported.

    Args:
        value: Computed value.
    """
    if math.isfinite(value):
        return value
    return f"its value is {value}: some answers have a likelihood that is not finite; did training diverge?"


def mean_of(values: Sequence[float | None]) -> Outcome:
    """Average over the rows that count; the reason if none does or the mean is not finite.

    Args:
        values: Contribution of each row.
    """
    counted = [value for value in values if value is not None]
    return finite(statistics.fmean(counted)) if counted else "none of its questions counts"
