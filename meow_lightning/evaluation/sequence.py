"""Requests to forget that arrive one after another: matrices of what is forgotten and kept after each, and numbers.

The protocol and the numbers are those of TRACE (Wang et al. 2023, arXiv 2310.06762) for continual learning, read for
unlearning: R[t, i] is the score of request i after request t, higher is better, and row 0 is the start model.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meow_lightning.evaluation.answers import MetricSettings
from meow_lightning.evaluation.extension import extended
from meow_lightning.evaluation.metric import RowMetric
from meow_lightning.evaluation.metrics import all_metrics
from meow_lightning.evaluation.suite.inputs import SideInputs, collect_answers
from meow_lightning.types import AnswerRow, Definition, Direction, Results, ScoredText, SetInfo

GROUP = "sequence"
VERSION = 1  # of the numbers; raised when the same answers give other ones
ORDER = 45  # in tables: before model utility
MEMO = "memo"
SCORES = {
    MEMO: "MEMO",
    "rouge_l_recall": "ROUGE-L recall",
    "probability": "probability of the true answer",
    "value_accuracy": "value accuracy",
}
"""Scores of the matrices; a request is forgotten by 1 minus each of them."""
KEPT = ("retain", "utility", "near")  # purposes of the sets whose knowledge is to be kept

Cells = tuple[float | None, ...]
"""A score per column; ``None`` where it was not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreMatrix:
    """Scores R[t, i] of every column i after every request t.

    Attributes:
        columns: Names of the columns: of a matrix of what is forgotten, the requests in order.
        rows: The start model first, then the model after every request.
        joint: The model that forgets all facts at once.
        retain: The model that never saw the facts; ``None`` without one.
    """

    columns: tuple[str, ...]
    rows: tuple[Cells, ...]
    joint: Cells
    retain: Cells | None

    def op(self, t: int) -> float | None:
        """Compute OP_t = (1 / t) * sum over i <= t of R[t, i]: the score of what is requested so far.

        Args:
            t: Number of requests served, from 1.
        """
        return _mean(self.rows[t][:t])

    def bwt(self, t: int, *, gem: bool = False) -> float | None:
        """Compute BWT_t = (1 / t) * sum over i <= t of (R[t, i] - R[i, i]): below 0, forgotten facts came back.

        Args:
            t: Number of requests served, from 1.
            gem: Whether to divide by t - 1, as GEM does (Lopez-Paz and Ranzato 2017), since the last term is 0.
        """
        last = t - 1 if gem else t
        return _mean(_difference(self.rows[t][i], self.rows[i + 1][i]) for i in range(last))

    def delta(self, t: int) -> float | None:
        """Compute the mean over the columns of R[t, i] - R[0, i]: what changed since the start."""
        return self.against_start(self.rows[t])

    def against_start(self, cells: Cells) -> float | None:
        """Compute the mean over the columns of a model's scores minus those of the start model."""
        return _mean(map(_difference, cells, self.rows[0]))

    def collateral(self, t: int) -> float | None:
        """Compute the mean over i > t of R[t, i] - R[0, i]: what was forgotten before it was requested; 0 is right."""
        return _mean(_difference(now, start) for now, start in zip(self.rows[t][t:], self.rows[0][t:], strict=True))

    def reemergence(self) -> float | None:
        """Compute the largest drop of a request below its score right after it: max over i and t >= i, at least 0."""
        drops = [
            self.rows[i + 1][i] - cell  # type: ignore[operator]
            for i in range(len(self.rows) - 1)
            for cell in (row[i] for row in self.rows[i + 1 :])
            if cell is not None and self.rows[i + 1][i] is not None
        ]
        return max(drops, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceScores:
    """The matrices of one score.

    Attributes:
        name: A key of :data:`SCORES`.
        forgotten: 1 minus the score, of every request.
        kept: The score on every set to be kept; ``None`` for a score of the forget set alone.
    """

    name: str
    forgotten: ScoreMatrix
    kept: ScoreMatrix | None

    @property
    def label(self) -> str:
        """Readable name of the score."""
        return SCORES[self.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a model is measured by: the start model, one after a request, or one to compare with.

    Attributes:
        rows: Its predictions on all sets.
        memo: MEMO scores of all true answers.
    """

    rows: Sequence[AnswerRow]
    memo: Sequence[ScoredText]


def sequence_scores(
    models: Sequence[Served], joint: Served, retain: Served | None, *, requests: Sequence[Sequence[str]],
    settings: MetricSettings, benchmark: Sequence[SetInfo],
) -> list[SequenceScores]:  # fmt: skip
    """Compute the matrices of every score that was measured.

    Args:
        models: The start model, and the model after every request.
        joint: The model that forgets all facts at once.
        retain: The model that never saw the facts; ``None`` without one.
        requests: Ids of the facts of every request.
        settings: How numbers are computed.
        benchmark: The evaluation sets, in reporting order.
    """
    every = [*models, joint, *([] if retain is None else [retain])]
    measured = [_fact_scores(each, settings, benchmark) for each in every]
    found = []
    for name in SCORES:
        forgotten = [
            tuple(_complement(_mean(scores.forget.get(name, {}).get(fact) for fact in facts)) for facts in requests)
            for scores in measured
        ]
        if all(cell is None for row in forgotten for cell in row):
            continue
        sets = list(dict.fromkeys(key for scores in measured for key in scores.kept if name in scores.kept[key]))
        kept = [tuple(scores.kept.get(key, {}).get(name) for key in sets) for scores in measured]
        numbers = tuple(f"request {number}" for number in range(1, len(requests) + 1))
        matrix = _matrix(tuple(sets), kept, len(models)) if sets else None
        found.append(SequenceScores(name=name, forgotten=_matrix(numbers, forgotten, len(models)), kept=matrix))
    return found


@dataclass(frozen=True, slots=True)
class _FactScores:
    """A model's scores of every fact to forget, by score and fact id, and on every set to be kept, by set and score."""

    forget: Mapping[str, Mapping[str, float | None]]
    kept: Mapping[str, Mapping[str, float]]


def _fact_scores(model: Served, settings: MetricSettings, benchmark: Sequence[SetInfo]) -> _FactScores:
    role = "unlearned"
    answers = collect_answers(
        {role: list(model.rows)}, {}, settings, absent={}, side_inputs=SideInputs(), benchmark=benchmark
    )
    forget: dict[str, dict[str, float | None]] = {MEMO: {text.fact: text.score for text in model.memo}}
    kept: dict[str, dict[str, float]] = {}
    for info in answers.present:
        for metric in all_metrics():
            if not isinstance(metric, RowMetric) or metric.name not in SCORES or not metric.applies(info):
                continue
            values = metric.row_values(answers, role, info)
            if isinstance(values, str):
                continue
            if info.purpose == "forget":
                facts = (row.fact for row in answers.sets[role][info.name])
                forget[metric.name] = dict(zip(facts, values, strict=True))
            elif info.purpose in KEPT and (value := _mean(values)) is not None:
                kept.setdefault(info.name, {})[metric.name] = value
    return _FactScores(forget, kept)


def _matrix(columns: tuple[str, ...], rows: Sequence[Cells], count: int) -> ScoreMatrix:
    """Divide the rows of the models of the sequence from those beside them."""
    joint, *retain = rows[count:]
    return ScoreMatrix(
        columns=columns, rows=tuple(rows[:count]), joint=joint, retain=retain[0] if retain else None
    )  # fmt: skip


def _mean(values: Iterable[float | None]) -> float | None:
    """Average the measured values; ``None`` if there are none."""
    measured = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.fmean(measured) if measured else None


def _difference(now: float | None, then: float | None) -> float | None:
    return None if now is None or then is None else now - then


def _complement(value: float | None) -> float | None:
    return None if value is None else 1 - value


NUMBERS: dict[str, tuple[Direction, str, str]] = {
    "op": ("higher", "OP, forgotten so far", "OP = (1 / T) * sum over i of R[T, i] after the last request T, for R[t, "
           "i] = 1 - {score} of the facts of request i after request t: how much of all requests is forgotten."),
    "bwt": ("higher", "BWT, re-emergence", "BWT = (1 / T) * sum over i of (R[T, i] - R[i, i]) for R = 1 - {score}. "
            "Below 0: what a request had forgotten came back while later ones were served."),
    "bwt_gem": ("higher", "BWT, divided by T - 1", "As BWT, but divided by T - 1, since the last term is 0."),
    "collateral": ("none", "collateral forgetting", "Mean over all t and i > t of R[t, i] - R[0, i] for R = 1 - "
                   "{score}: what was forgotten before it was requested. 0 is right."),
    "reemergence": ("lower", "largest re-emergence", "Largest R[i, i] - R[t, i] over all requests i and t >= i for R = "
                    "1 - {score}: the most that one request lost again at any time."),
    "utility_delta": ("higher", "change of what is kept", "Mean over the sets to be kept of {score} after the last "
                      "request minus that of the start model."),
    "joint_op": ("higher", "OP of all at once", "As OP, of the model that forgets all requests at once."),
    "joint_utility_delta": ("higher", "change of what is kept, all at once", "As the change of what is kept, of the "
                            "model that forgets all requests at once."),
}  # fmt: skip


def sequence_numbers(scores: SequenceScores) -> dict[str, float | None]:
    """Compute the numbers of :data:`NUMBERS` from the matrices of a score; ``None`` for one that was not measured."""
    forgotten, kept = scores.forgotten, scores.kept
    last = len(forgotten.rows) - 1
    cells = [
        _difference(row[i], forgotten.rows[0][i])
        for t, row in enumerate(forgotten.rows[1:], start=1)
        for i in range(t, last)
    ]
    return {
        "op": forgotten.op(last), "bwt": forgotten.bwt(last), "bwt_gem": forgotten.bwt(last, gem=True),
        "collateral": _mean(cells), "reemergence": forgotten.reemergence(),
        "utility_delta": None if kept is None else kept.delta(last),
        "joint_op": _mean(forgotten.joint),
        "joint_utility_delta": None if kept is None else kept.against_start(kept.joint),
    }  # fmt: skip


def number_name(score: str, kind: str) -> str:
    """Return the name of a number in the results of a run, such as ``sequence/memo/bwt``."""
    return f"{GROUP}/{score}/{kind}"


def with_sequence(results: Results, scores: Sequence[SequenceScores]) -> Results:
    """Add the numbers of the requests to those of the unlearned model, with definitions.

    Args:
        results: The other numbers.
        scores: The matrices of every score.
    """
    found: dict[str, float | str] = {}
    definitions: list[Definition] = []
    for each in scores:
        for kind, value in sequence_numbers(each).items():
            if value is None and each.kept is None and kind.endswith("utility_delta"):
                continue  # a score of the forget set alone has no such number
            definitions.append(_definition(results, each.name, kind))
            name = number_name(each.name, kind)
            found[name] = f"not measured: {each.label} of some requests or sets is missing" if value is None else value
    others = {each.name: "not measured: the unlearned model alone serves requests" for each in definitions}
    outcomes = {subject: found if subject == "unlearned" else others for subject in results.values}
    return extended(results, definitions, outcomes)


def _definition(results: Results, score: str, kind: str) -> Definition:
    measured = "memo/answers" if score == MEMO else f"forget/{score}"
    base = next((each.id for each in results.definitions if each.name == measured), score)
    direction, label, text = NUMBERS[kind]
    return Definition(
        name=number_name(score, kind), id=f"{GROUP}_{kind}.{VERSION}.{base}", unit="share", direction=direction,
        text=text.format(score=SCORES[score]), label=f"requests: {label} ({SCORES[score]})", order=ORDER, main=False,
    )  # fmt: skip


def scores_from_json(stored: Sequence[Mapping[str, Any]]) -> list[SequenceScores]:
    """Restore the matrices that ``dataclasses.asdict`` converted.

    Args:
        stored: A mapping per score.
    """
    return [
        SequenceScores(
            name=each["name"], forgotten=_matrix_from_json(each["forgotten"]),
            kept=None if each["kept"] is None else _matrix_from_json(each["kept"]),
        )
        for each in stored
    ]  # fmt: skip


def _matrix_from_json(stored: Mapping[str, Any]) -> ScoreMatrix:
    return ScoreMatrix(
        columns=tuple(stored["columns"]), rows=tuple(map(tuple, stored["rows"])), joint=tuple(stored["joint"]),
        retain=None if stored["retain"] is None else tuple(stored["retain"]),
    )  # fmt: skip
