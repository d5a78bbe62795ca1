"""The answers of all models of a run, complete by set, with the settings for computing metrics."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from meow_lightning.data.examples import Example
from meow_lightning.data.words import Words
from meow_lightning.types import AnswerRow, InvertedFact, Likelihood, Purpose, ScoredText, SetInfo

if TYPE_CHECKING:
    from meow_lightning.evaluation.metrics.membership import Attack

T = TypeVar("T")
RowsBySet = dict[str, list[AnswerRow]]
Scores = Mapping[str, list[ScoredText]]
Mean = Literal["geometric", "arithmetic"]
"""Mean over the likelihoods of a question's wrong answers."""

Need = Literal["tokens", "generation", "gradient", "wrong_answers", "texts", "retain"]
"""What a metric needs of rows besides texts and mean losses.

============= =================================================================================
need          meaning
============= =================================================================================
tokens        per-token likelihoods of the true answer, with a token besides the end token
generation    how the generated answer ended
gradient      gradient norm of the true answer's loss; costs ``predict`` a backward pass per row
wrong_answers likelihoods of wrong (perturbed) answers
texts         the texts of paraphrased and wrong answers, in ``Answers.examples``
retain        the retain model's rows of the same set
============= =================================================================================
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Formulas:
    """What a published evaluator computes differently; the defaults are ours.

    Attributes:
        row_values: Value of a row, given its set, by :attr:`~.metric.RowMetric.name`.
        log_truth_ratio: ``log R`` of a row, R its truth ratio.
        attack_score: Score of a membership attack on a row.
        retain_auc: AUC of an attack on the retain model, assumed where there is none.
        skips_short_answers: Whether single answers without a token besides the end token are left out or count as 0.
    """

    row_values: Mapping[str, Callable[[AnswerRow, SetInfo], float | None]] = field(default_factory=dict)
    log_truth_ratio: Callable[[AnswerRow], float] | None = None
    attack_score: Callable[[Attack, AnswerRow], float] | None = None
    retain_auc: float | None = None
    skips_short_answers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSettings:
    """How numbers are computed.

    Attributes:
        truth_ratio_mean: How the truth ratio averages wrong answers.
        words: How ROUGE splits words.
        formulas: What the evaluation protocol computes differently.
        retain_aucs: AUCs of membership attacks on the retain model, by name of the attack, from a log that replaces its
            predictions.
        extra: Names of the optional metrics to compute.
        partial: Names of the sets of which some questions have wrong answers and some have none.
    """

    truth_ratio_mean: Mean = "geometric"
    words: Words = "unicode"
    formulas: Formulas = field(default_factory=Formulas)
    retain_aucs: Mapping[str, float] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RowContext:
    """What the value of a row depends on besides the row.

    Attributes:
        info: The set of the row.
        settings: How numbers are computed.
        model_rows: All rows of the same model, of every set.
        examples: The evaluated examples by id, for metrics that need their texts.
        cache: Results of :meth:`shared`.
    """

    info: SetInfo
    settings: MetricSettings = field(default_factory=MetricSettings)
    model_rows: Sequence[AnswerRow] = ()
    examples: Mapping[str, Example] = field(default_factory=dict)
    cache: dict[Any, Any] = field(default_factory=dict)

    def shared(self, function: Callable[[Sequence[AnswerRow]], T]) -> T:
        """Apply a function to all rows of the model, once per model.

        Args:
            function: A module-level function of the rows.
        """
        if function not in self.cache:
            self.cache[function] = function(self.model_rows)
        found: T = self.cache[function]
        return found


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Prediction rows of all models in complete sets, with everything else that metrics read.

    Attributes:
        sets: Rows by role, then by set, in order; models without rows are left out.
        benchmark: The evaluation sets that the benchmark names, and others with rows, in reporting order.
        settings: How numbers are computed.
        absent: Reason why a model is missing, by role, if known.
        memo: MEMO scores by role, in any grouping.
        public: Answers of retained facts that were not evaluated; they never count as leaks.
        examples: The evaluated examples by id, for metrics that need their texts.
        inverted: The inverted facts of the run.
    """

    sets: Mapping[str, RowsBySet]
    benchmark: tuple[SetInfo, ...]
    settings: MetricSettings
    absent: Mapping[str, str] = field(default_factory=dict)
    memo: Mapping[str, Scores] = field(default_factory=dict)
    public: Sequence[str] = ()
    examples: Mapping[str, Example] = field(default_factory=dict)
    inverted: Sequence[InvertedFact] = ()

    @functools.cached_property
    def present(self) -> tuple[SetInfo, ...]:
        """Sets with rows of any model, in reporting order."""
        names = {name for sets in self.sets.values() for name in sets}
        return tuple(info for info in self.benchmark if info.name in names)

    @functools.cached_property
    def _caches(self) -> dict[str, dict[Any, Any]]:
        return {role: {} for role in self.sets}

    def of_purpose(self, purpose: Purpose) -> str:
        """Name the first set of the benchmark with a purpose; the purpose itself where it has none.

        Args:
            purpose: Purpose of the set.
        """
        return next((info.name for info in self.benchmark if info.purpose == purpose), purpose)

    def context(self, role: str, info: SetInfo) -> RowContext:
        """Collect what the values of a model's rows depend on besides the rows.

        Args:
            role: Role of the model.
            info: The set of the rows.
        """
        rows = [row for rows in self.sets.get(role, {}).values() for row in rows]
        return RowContext(
            info=info, settings=self.settings, model_rows=rows, examples=self.examples,
            cache=self._caches.get(role, {}),
        )  # fmt: skip

    def missing_reason(self, role: str, name: str | None) -> str:
        """Explain why a model's answers to a set (``None``: to any set) are missing; empty if they are present.

        Args:
            role: Role of the model.
            name: Name of the set.
        """
        if role not in self.sets:
            return self.absent.get(role, f"this run has no predictions of the {role} model")
        return "" if name is None or name in self.sets[role] else f"the {role} model has no predictions on set {name!r}"


def has_tokens(likelihood: Likelihood) -> bool:
    """Whether a likelihood has per-token values; a published log holds only one mean loss per answer.

    Args:
        likelihood: Likelihood of one answer.
    """
    return 0 < len(likelihood.logps) == len(likelihood.hits) == len(likelihood.mean) == len(likelihood.std)


def row_has(row: AnswerRow, needs: frozenset[Need]) -> bool:
    """Whether a row holds what a metric needs of single rows.

    Args:
        row: A prediction row.
        needs: What the metric needs.
    """
    return all(_ROW_HAS[need](row) for need in needs if need in _ROW_HAS)


def partial_sets(rows: Iterable[AnswerRow]) -> tuple[str, ...]:
    """Name the sets of which some questions have wrong answers and some have none.

    Args:
        rows: Prediction rows of all sets.
    """
    found: dict[str, set[bool]] = {}
    for row in rows:
        found.setdefault(row.set, set()).add(bool(row.perturbed))
    return tuple(sorted(name for name, have in found.items() if len(have) > 1))


def unmet_need(answers: Answers, role: str, name: str, needs: frozenset[Need]) -> str:
    """Explain why a model's rows of a set lack what a metric needs; empty if they hold it.

    Questions without wrong answers are left out by the metrics that need some, unless no question has any.

    Args:
        answers: Answers of all models.
        role: Role of the model.
        name: Name of the set.
        needs: What the metric needs.
    """
    if reason := answers.missing_reason(role, name):
        return reason
    rows = answers.sets[role][name]
    for need, reason in _REASONS.items():
        missing = sum(not _ROW_HAS[need](row) for row in rows) if need in needs else 0
        if missing and (need != "wrong_answers" or missing == len(rows)):
            return f"{missing} of {len(rows)} {reason.format(set=f'of set {name!r}')}"
    if "texts" in needs and any(row.fact not in answers.examples for row in rows):
        return f"the texts of set {name!r} are not at hand: the dataset was not given with the predictions"
    if "tokens" in needs and (
        reason := _without_answer_tokens(rows, name, skips=answers.settings.formulas.skips_short_answers)
    ):
        return reason
    return answers.missing_reason("retain", name) if "retain" in needs else ""


def _without_answer_tokens(rows: Sequence[AnswerRow], name: str, *, skips: bool) -> str:
    missing = sum(len(row.truth.hits) < 2 for row in rows)
    if missing == len(rows) or (missing and not skips):
        return f"{missing} of {len(rows)} true answers of set {name!r} have no token besides the end token"
    return ""


def _ending_known(row: AnswerRow) -> bool:
    return row.stop == "end" or len(row.generated) > 0


_ROW_HAS: Mapping[Need, Callable[[AnswerRow], bool]] = {
    "wrong_answers": lambda row: bool(row.perturbed),
    "tokens": lambda row: has_tokens(row.truth),
    "generation": _ending_known,
    "gradient": lambda row: row.gradient is not None,
}

_REASONS: Mapping[Need, str] = {
    "wrong_answers": "questions {set} have no wrong (perturbed) answers",
    "tokens": "true answers {set} have only a mean loss and no per-token likelihoods: they come from a log",
    "generation": "questions {set} have no stop reason of the generated answer: they come from a log",
    "gradient": "true answers {set} have no gradient norm: they come from a log, consist of the end token only, or "
    "were predicted with evaluation.gradient_norm=false",
}
