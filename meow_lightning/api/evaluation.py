"""The result of an evaluation: metrics by role, the reasons of missing ones, and the predictions behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from meow_lightning.config import schema
from meow_lightning.errors import UserError, suggestion
from meow_lightning.evaluation.predictions import write_rows
from meow_lightning.evaluation.suite.bootstrap import Bootstrap, headline_samples, interval_ends
from meow_lightning.evaluation.suite.suite import results_to_json
from meow_lightning.report.tables import markdown
from meow_lightning.store.durable import write_json
from meow_lightning.types import AnswerRow, Definition, Results, ScoredText, SetInfo

if TYPE_CHECKING:
    import pandas

ROLE = "unlearned"  # the model that is evaluated; the others are compared with it


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Metrics of an unlearned model and of those that it is compared with.

    Attributes:
        results: All values and reasons by role (``target``, ``retain``, ``unlearned``), with the definitions.
        predictions: Prediction rows of all evaluation sets, by role.
        scores: Scores of the true answers of the forget set, by role; empty without a measure.
        settings: The options of ``evaluation`` that were used.
        benchmark: The evaluation sets with their purpose and scoring, in reporting order.
    """

    results: Results
    predictions: Mapping[str, list[AnswerRow]]
    scores: Mapping[str, list[ScoredText]]
    settings: schema.Evaluation
    benchmark: tuple[SetInfo, ...]

    def __getitem__(self, name: str) -> float:
        """Return a metric of the unlearned model, such as ``forget/rouge_l_recall`` or ``model_utility``.

        Raises:
            UserError: The metric is missing; the message gives the reason.
        """
        return self.value(name, role=ROLE)

    def value(self, name: str, *, role: str) -> float:
        """Return a metric of one model.

        Args:
            name: Name of the metric.
            role: ``target``, ``retain`` or ``unlearned``.

        Raises:
            UserError: The metric or the role does not exist, or the metric is missing; the message gives the reason.
        """
        values, missing = self.results.values.get(role, {}), self.results.missing.get(role, {})
        if name in values:
            return values[name]
        if name in missing:
            raise UserError(f"{name} of the {role} model was not measured: {missing[name]}")
        raise UserError(f"{name} is no metric of the {role} model{suggestion(name, [*values, *missing])}")

    @property
    def missing(self) -> Mapping[str, str]:
        """Reasons for the unlearned model's missing metrics, by name."""
        return self.results.missing.get(ROLE, {})

    def definition(self, name: str) -> Definition:
        """Return the definition of a metric: unit, direction and meaning.

        Raises:
            UserError: There is no such metric.
        """
        defined = {each.name: each for each in self.results.definitions}
        if name not in defined:
            raise UserError(f"{name} is no metric of this evaluation{suggestion(name, defined)}")
        return defined[name]

    def intervals(
        self, *, confidence_level: float | None = None, bootstrap_samples: int | None = None
    ) -> dict[str, dict[str, tuple[float, float]]]:
        """Compute bootstrap intervals over questions of the headline metrics, (low, high) by role and name.

        Args:
            confidence_level: Share of the samples inside an interval, above 0 and below 1; ``None`` as configured.
            bootstrap_samples: Number of samples, from 1; ``None`` as configured.
        """
        samples = headline_samples(
            self.predictions, {role: {"answers": list(each)} for role, each in self.scores.items()},
            truth_ratio_mean=self.settings.truth_ratio_mean, protocol=self.settings.protocol, benchmark=self.benchmark,
            bootstrap=Bootstrap(bootstrap_samples=bootstrap_samples or self.settings.bootstrap_samples, seed=0),
        )  # fmt: skip
        level = confidence_level or self.settings.confidence_level
        return {role: interval_ends(each, confidence_level=level) for role, each in samples.items()}

    def to_frame(self) -> pandas.DataFrame:
        """Convert to a table: one row per metric, one column per role; NaN where a metric is missing."""
        import pandas

        columns = {role: each for role, each in self.results.values.items() if role in self.predictions}
        return pandas.DataFrame(columns).reindex([each.name for each in self.results.definitions]).dropna(how="all")

    def save(self, folder: str | Path) -> Path:
        """Write ``results.json``, ``results.md`` and the predictions of every model, ``predictions-<role>.jsonl``.

        The predictions hold the questions and answers of the dataset.

        Args:
            folder: Target folder, created if it does not exist.

        Returns:
            The folder.
        """
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "results.json", results_to_json(self.results))
        (path / "results.md").write_text(markdown(self.results), encoding="utf-8")
        for role, rows in self.predictions.items():
            write_rows(path / f"predictions-{role}.jsonl", rows)
        return path

    def __str__(self) -> str:
        """Format all metrics as a Markdown table."""
        return markdown(self.results)
