"""Counts beside a number: the questions on which it rests, and all of its set."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from meow_lightning.evaluation.answers import Answers, MetricSettings
from meow_lightning.evaluation.metric import SET_ORDER, Outcome, RowMetric, RunMetric, coverage_names
from meow_lightning.types import AnswerRow, Definition, SetInfo


class Coverage(RunMetric):
    """Number of questions of a set on which a number rests, and number of all.

    Attributes:
        of: The number.
        id: Identifier of the definition.
        which: Words that tell the counted questions from the others, for labels.
        text: Definition of the count of these questions.
    """

    of: ClassVar[type[RowMetric]]
    id: ClassVar[str]
    which: ClassVar[str]
    text: ClassVar[str]

    @abstractmethod
    def counts(self, row: AnswerRow) -> bool:
        """Whether the number rests on a row, among others."""

    def applies(self, info: SetInfo, settings: MetricSettings) -> bool:
        """Whether the questions of a set are counted."""
        return True

    def definitions(self, sets: Sequence[SetInfo], settings: MetricSettings) -> list[Definition]:
        """Define both counts of every set to which they apply."""
        texts = ((self.which, self.text), ("in all", "Number of questions."))
        return [
            Definition(
                name=name, id=self.id, unit="count", direction="none", text=text, main=False,
                label=f"{info.name.replace('_', ' ')} questions {which}",
                order=position * SET_ORDER + self.of.order + place,
            )
            for position, info in enumerate(sets, start=1)
            if self.applies(info, settings)
            for place, name, (which, text) in zip(
                (1, 2), coverage_names(f"{info.name}/{self.of.name}"), texts, strict=True
            )
        ]  # fmt: skip

    def outcomes(self, answers: Answers, role: str, numbers: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Count the questions; missing where the number is."""
        found: dict[str, Outcome] = {}
        for info in answers.present:
            if self.applies(info, answers.settings):
                name = f"{info.name}/{self.of.name}"
                reason, rows = numbers[name], answers.sets.get(role, {}).get(info.name, [])
                counts = (sum(map(self.counts, rows)), len(rows))
                for each, count in zip(coverage_names(name), counts, strict=True):
                    found[each] = reason if isinstance(reason, str) else float(count)
        return found
