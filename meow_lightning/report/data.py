"""Data of a report, and lookup and formatting of its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from meow_lightning.data.probed import Overview
from meow_lightning.evaluation.ability import stderr_name
from meow_lightning.evaluation.metric import coverage_names, is_coverage
from meow_lightning.evaluation.sets import BENCHMARK
from meow_lightning.evaluation.subject import Subject
from meow_lightning.types import AnswerRow, Definition, InvertedFact, Results, Role, ScoredText

if TYPE_CHECKING:
    from meow_lightning.evaluation.sequence import SequenceScores
    from meow_lightning.report.extraction import Said
    from meow_lightning.report.neighbours import Neighbour
    from meow_lightning.report.requests import ServedRequest
    from meow_lightning.report.seed_spread import Spread
    from meow_lightning.report.slim import Retrieved

ROLE_NAMES = {"target": "target model", "unlearned": "unlearned model", "retain": "retain model"}
DASH = "—"
ARROWS = {"higher": "↑", "lower": "↓", "none": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Generated inverted answers that were filtered out.

    Attributes:
        counts: Number of dropped answers by reason.
        examples: Examples by reason: ``(Fact.id, unfiltered answer)``.
    """

    counts: Mapping[str, int]
    examples: Mapping[str, Sequence[tuple[str, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """One finished run, as shown in its report.

    Attributes:
        name: Readable name.
        key: Key in the store.
        settings: The resolved options, nested.
        settings_origin: Origin of an option, by its dotted path or its last part.
        results: The numbers.
        rows: Predictions by role (``target``, ``retain``, ``unlearned``); a role may be absent.
        memo: MEMO by role, then ``"answers"`` or ``"candidates"``; either may be absent.
        baseline: MEMO of the inverted answers under the model of ``method.select.baseline``; empty without one.
        selected: Candidate positions that were trained on, by fact id; empty if the method selects none.
        inverted: All inverted answers.
        dropped: The inverted answers that were filtered out.
        curves: Rows of ``metrics.jsonl`` by stage label, in order.
        stages: One mapping per stage with ``label``, ``key`` and ``seconds``.
        weights: Relative folder of the unlearned model.
        public: Whether the dataset's texts may be published.
        texts: Whether questions and answers are shown.
        disclaimer: Shown before all numbers; empty for none.
        notes: Caveats on the models and facts behind the numbers, one sentence each.
        loop: The rounds of a method that queries its teacher repeatedly; ``None`` for other methods.
        spread: The numbers over several seeds, if they were measured for these settings; else ``None``.
        intervals: Bootstrap intervals ``[low, high]`` by role and number, if any.
        known: Every question with the target model's answer and its fate, for a dataset of facts that the model knows;
            empty for other datasets, and without texts.
        neighbours: Retain examples that a stream consists of, by stream, if the method chose some; empty without texts.
        sequence: Matrices over the requests to forget, by score; empty for a run that forgets all facts at once.
        served: These requests.
        keeps_start: Whether the unlearned model contains the target model unchanged (``BaseMethod.keeps_start``).
        layers: What attacks on hidden states read, averaged over the questions.
        said: What the unlearned model said under attacks that ask, by label of the attack; empty without texts.
        retrieved: What it said with retrieved passages, for ``probe=slim``; empty without texts.
        trust: How far metrics can be trusted (``metric_trust.read_trusts``); empty if it was not measured.
    """

    name: str
    key: str
    settings: dict[str, Any]
    settings_origin: dict[str, str]
    results: Results
    rows: dict[str, list[AnswerRow]]
    memo: dict[str, dict[str, list[ScoredText]]]
    baseline: list[ScoredText]
    selected: dict[str, list[int]]
    inverted: list[InvertedFact]
    dropped: Dropped
    curves: dict[str, list[dict[str, Any]]]
    stages: list[dict[str, Any]]
    weights: str
    public: bool
    texts: bool
    disclaimer: str
    notes: list[str]
    loop: Loop | None
    spread: Spread | None
    intervals: dict[str, dict[str, list[float]]]
    known: list[Overview]
    neighbours: Mapping[str, Sequence[Neighbour]]
    sequence: Sequence[SequenceScores] = ()
    served: Sequence[ServedRequest] = ()
    keeps_start: bool = False
    layers: Sequence[LayerCurves] = ()
    said: Mapping[str, Sequence[Said]] = field(default_factory=dict)
    retrieved: Sequence[Retrieved] = ()
    trust: Mapping[str, Any] = field(default_factory=dict)


def number(results: Results, role: str, name: str) -> float | None:
    """Look up a number by role and name; ``None`` if it is missing or NaN."""
    value = results.values.get(role, {}).get(name)
    return None if value is None or math.isnan(value) else float(value)


def around_attack(results: Results, role: Role, condition: str, name: str) -> tuple[float, float] | None:
    """Look up a model's number before and after an attack; ``None`` if either is missing."""
    before, after = number(results, role, name), number(results, str(Subject(role, condition)), name)
    return None if before is None or after is None else (before, after)


def subject_name(results: Results, subject: str) -> str:
    """Format a subject, as in ``unlearned model`` and ``unlearned model, after relearning``.

    Args:
        results: The numbers of a run.
        subject: Text of a :class:`Subject`.
    """
    parsed = Subject.parse(subject)
    name, condition = ROLE_NAMES[parsed.role], parsed.condition
    return f"{name}, {results.conditions.get(condition, condition)}" if condition else name


def why_missing(results: Results, role: str, name: str) -> str:
    """Explain why :func:`number` is ``None``; for a subject without any numbers, with the subject's reason."""
    reasons = results.missing.get(role, {})
    if name in reasons:
        return reasons[name].removeprefix("not measured: ")
    if name in results.values.get(role, {}):
        return f"{name} of the {subject_name(results, role)} is not a number"
    if not results.values.get(role) and reasons:
        return next(iter(reasons.values())).removeprefix("not measured: ")
    if not results.values.get(role):
        return f"this run has no {subject_name(results, role)}"
    part = name.partition("/")[0]
    named = any(info.name == part for info in BENCHMARK)
    if named and not any(known.startswith(f"{part}/") for known in (*reasons, *results.values.get(role, {}))):
        return f"there is no {readable_name(part)} set"
    return f"{label(results, name)} was not measured for the {subject_name(results, role)}"


def definition(results: Results, name: str) -> Definition | None:
    """Look up a definition by name, else by the last part of the name, which is shared between sets."""
    by_name = {known.name: known for known in results.definitions}
    return by_name.get(name) or by_name.get(PurePosixPath(name).name)


def label(results: Results, name: str) -> str:
    """Look up a metric's label; without a definition, format its name, set first."""
    return next((each.label for each in results.definitions if each.name == name), readable_name(name))


def readable_name(name: str) -> str:
    """Format a metric's name: ``forget/value_accuracy`` becomes ``forget value accuracy``."""
    return name.replace("/", " ").replace("_", " ")


def stderr_of(results: Results, role: str, name: str) -> float | None:
    """Look up a number's standard error; ``None`` for a number without one."""
    return number(results, role, stderr_name(name))


def coverage_of(results: Results, role: str, name: str) -> tuple[int, int] | None:
    """Look up on how many questions of how many a number rests; ``None`` if on all of its set, or if not counted."""
    covered, total = (number(results, role, each) for each in coverage_names(name))
    return None if covered is None or total is None or covered == total else (int(covered), int(total))


def arrow(results: Results, name: str) -> str:
    """Return ``↑`` or ``↓`` for the better direction, or an empty string."""
    known = definition(results, name)
    return ARROWS[known.direction] if known else ""


def format_value(name: str, value: float) -> str:
    """Format a value with the digits appropriate to its metric."""
    if math.isinf(value):
        return "-inf" if value < 0 else "inf"
    if name.endswith(("_rows", "_values")) or is_coverage(name):
        return f"{value:.0f}"
    if name == "model/parameters":
        return f"{value:,.0f}"
    if name == "forget_quality":
        return f"{value:.2g}" if value < 0.1 else f"{value:.2f}"
    text = f"{value:.1f}" if name.endswith("_log10") else f"{value:.3f}"
    return text.removeprefix("-") if float(text) == 0 else text


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted paths, in order; empty mappings are kept as entries."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        path = f"{prefix}{name}"
        flat.update(flatten(value, f"{path}.") if isinstance(value, dict) and value else {path: value})
    return flat


@dataclass(frozen=True, slots=True)
class LayerCurves:
    """What one attack on hidden states read: a number per decoder layer, bottom first, by role.

    Attributes:
        label: How pictures name the attack.
        unit: The number, in a few words.
        means: Means over the questions, by role.
    """

    label: str
    unit: str
    means: Mapping[Role, Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round: querying the teacher, unlearning from the target model, scoring.

    Attributes:
        number: Index, from 1.
        queried: Number of facts that the teacher was queried for.
        calls: Number of requests to the teacher, including repeats.
        written: Number of generated inverted answers, before filtering.
        kept: Number of inverted facts added after filtering.
        trained: Number of rows trained on.
        still_memorized: Number of facts that score above ``Loop.memorized_above`` after this round.
        facts: Number of facts to forget, at least 1.
        memo: Mean score of the true answers after this round, 0 to 1.
        worst: Highest score of a true answer after this round, 0 to 1.
        tokens: Tokens read and generated by the teacher in this round; 0 if not counted.
        same: Whether there was nothing new, so that the model of the previous round was reused.
    """

    number: int
    queried: int
    calls: int
    written: int
    kept: int
    trained: int
    still_memorized: int
    facts: int
    memo: float
    worst: float
    tokens: int
    same: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """All rounds of a run.

    Attributes:
        memorized_above: Score above which a fact counts as memorized, 0 to 1.
        rounds: The rounds in order, at least one.
        ended: Why the rounds ended: ``below`` (no fact is above the threshold), ``budget`` (no requests are left),
            ``rounds`` (the last round is done) or ``silent`` (the teacher returned nothing new).
        measure: Name of the score, such as MEMO.
    """

    memorized_above: float
    rounds: tuple[Round, ...]
    ended: str
    measure: str
