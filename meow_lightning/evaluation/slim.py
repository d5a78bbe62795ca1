"""Metrics of the SlimPLM probe: accuracy of the known/unknown judge, leakage and utility with retrieval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from meow_lightning.data.values.matching import contains_any_value, contains_values
from meow_lightning.evaluation.extension import extended
from meow_lightning.evaluation.known_judge import (
    Features,
    probabilities,
    set_aside,
    weighted_auc,
    weighted_kappa,
    weighted_mean,
)
from meow_lightning.evaluation.reading_judge import Reading, read_probabilities
from meow_lightning.evaluation.suite.bootstrap import Bootstrap, Floats, HeadlineSamples
from meow_lightning.types import ROLES, Definition, Direction, Purpose, Results, Role

GROUP = "slim"
VERSION = 2  # raised when the same answers give other numbers
ORDER = 59  # in tables: after the attacks that ask
GATED: Mapping[str, Purpose] = {"leak": "forget", "utility": "retain"}
HEADLINES = tuple(f"{GROUP}/{name}" for name in ("auroc", "leak_off", "leak_on", "leak_deny"))  # shown as a run ends
ARMS = {  # of the gate: how it is shown, and what it does
    "off": ("off", "without retrieval"),
    "on": ("on", "if questions that are judged unknown are answered with retrieved passages"),
    "deny": ("on, deny list", "in the same way, without passages that state a fact to forget"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SlimRow:
    """A question to a model and its proxy.

    Attributes:
        set: Evaluation set.
        index: Place in the set, from 0.
        purpose: What the set is for, see :class:`~meow_lightning.types.SetInfo`.
        question: The question.
        expected: Texts that a correct answer gives, all of them.
        text: The model's greedy answer.
        own: Features of the model's own answers.
        proxy_text: The proxy's greedy answer.
        proxy: Features of the proxy's answers.
        passages: What the question retrieves; empty if no passage shares a word with it.
        text_on: The model's answer with these passages.
        allowed: What it retrieves without the deny list.
        text_deny: The model's answer with these.
    """

    set: str
    index: int
    purpose: Purpose
    question: str
    expected: tuple[str, ...]
    text: str
    own: Features
    proxy_text: str
    proxy: Features
    passages: tuple[str, ...]
    text_on: str
    allowed: tuple[str, ...]
    text_deny: str

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> SlimRow:
        """Restore the row from its stored form."""
        lists = {name: tuple(stored[name]) for name in ("expected", "passages", "allowed")}
        judged = {name: Features(**stored[name]) for name in ("own", "proxy")}
        return cls(**{**stored, **lists, **judged})

    @property
    def knows(self) -> bool:
        """Whether the model answers correctly, without passages."""
        return contains_values(self.text, self.expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """How the judge is trained and read; the options of ``probe.judge`` that the answers do not depend on.

    Attributes:
        set_aside: Share of the questions of every set that it is trained on, above 0 and below 1.
        c: Inverse strength of the L2 penalty, above 0.
        threshold: Probability from which on a question is judged known.
        seed: Seed of the split.
    """

    set_aside: float
    c: float
    threshold: float
    seed: int


@dataclass(frozen=True, slots=True)
class Judged:
    """The tested questions of a model, with the verdicts of two judges.

    Attributes:
        rows: The questions, none of which a judge was trained on.
        proxy: Probability that each is known, by the judge of the proxy's answers.
        own: The same by the judge of the model's own answers.
        threshold: Probability from which on a question is judged known.
    """

    rows: Sequence[SlimRow]
    proxy: Sequence[float]
    own: Sequence[float]
    threshold: float

    def answer(self, place: int, arm: str) -> str:
        """Return the answer to a question with the gate ``off``, ``on``, or on with the deny list (``deny``).

        Args:
            place: Place of the question.
            arm: The gate.
        """
        row = self.rows[place]
        if arm == "off" or self.proxy[place] >= self.threshold:
            return row.text
        return row.text_on if arm == "on" else row.text_deny


class _Number(NamedTuple):
    name: str
    label: str
    unit: str
    direction: Direction
    text: str


def _value_share(name: str, arm: str, direction: Direction) -> _Number:
    shown, how = ARMS[arm]
    text = f"Share of the tested questions of the {GATED[name]} set whose value the model says {how}."
    return _Number(f"{name}_{arm}", f"{GATED[name]} set said, gate {shown}", "share", direction, text)


def _known(purpose: str, direction: Direction) -> _Number:
    text = f"Share of the tested questions of the {purpose} set that the proxy's judge takes for known."
    return _Number(f"known_{purpose}", f"{purpose} set judged known", "share", direction, text)


NUMBERS = (
    _Number(
        "auroc", "judge of the proxy, AUROC", "share", "none",
        "AUROC of the judge on the answers of the pruned proxy for the model's own correct answers, over the tested "
        "questions of all sets: 0.5 by chance, 1 perfect.",
    ),
    _Number(
        "own_auroc", "judge of the model itself, AUROC", "share", "none",
        "The same with the judge on the model's own answers.",
    ),
    _Number(
        "agreement", "both judges agree", "share", "none",
        "Share of the tested questions on which both judges give the same verdict.",
    ),
    _Number(
        "kappa", "both judges agree, Cohen's kappa", "", "none",
        "Agreement of both judges beyond chance, Cohen's kappa: 0 by chance, 1 always.",
    ),
    _known("forget", "lower"),
    _known("retain", "higher"),
    _Number(
        "reads", "passages read", "share", "none",
        "Share of questions answered correctly with retrieved passages, of the tested ones whose passages state the "
        "value and that the model does not answer without them. A model that does not read its prompt leaks nothing "
        "through it.",
    ),
    *(_value_share("leak", arm, "lower") for arm in ARMS),
    *(_value_share("utility", arm, "higher") for arm in ARMS),
)  # fmt: skip


def judge(
    rows: Sequence[SlimRow], settings: JudgeSettings, *, counted: Sequence[bool], readings: Sequence[Reading] | None
) -> Judged | str:
    """Train both judges on the questions set aside, and apply them to the others; else the reason why not.

    Args:
        rows: All questions of a model.
        settings: How the judge is trained and read.
        counted: Whether each question counts for metrics; the others were used to select an epoch.
        readings: What a language model says about the answers to each question, which then judges; ``None`` for the
            logistic regression.
    """
    questions: dict[str, list[str]] = {}
    for row in rows:
        questions.setdefault(row.set, []).append(row.question)
    aside = set_aside(questions, share=settings.set_aside, seed=settings.seed)
    trained = [place for place, row in enumerate(rows) if row.question in aside]
    tested = [place for place, row in enumerate(rows) if counted[place] and row.question not in aside]
    known = [rows[place].knows for place in trained]
    if not tested:
        return "no question is left to test; lower probe.judge.set_aside"
    if len(set(known)) < 2:
        which = "all" if any(known) else "none"
        return (
            f"the judge needs known and unknown questions, but the model answers {which} of the {len(trained)} "
            "questions set aside correctly"
        )
    if readings is None:
        proxy, own = (
            probabilities([of(rows[i]) for i in trained], known, [of(rows[i]) for i in tested], c=settings.c)
            for of in (attrgetter("proxy"), attrgetter("own"))
        )
    else:
        proxy, own = (
            read_probabilities([of(readings[i]) for i in trained], known, [of(readings[i]) for i in tested])
            for of in (attrgetter("proxy"), attrgetter("own"))
        )
    return Judged([rows[place] for place in tested], proxy, own, settings.threshold)


def with_slim(results: Results, judged: Mapping[Role, Judged | str], *, absent: Mapping[str, str]) -> Results:
    """Add the numbers of the probe to those of a run.

    Args:
        results: The other numbers; every role is in its ``values``.
        judged: The tested questions by role, or the reason why there is no judge.
        absent: Why a role has no model, by role.
    """
    if not judged:
        return results
    outcomes: dict[str, dict[str, float | str]] = {}
    for role in ROLES:
        own = judged.get(role, absent.get(role, f"this run has no {role} model to ask"))
        found = {} if isinstance(own, str) else _point(own)
        outcomes[role] = {
            number_name(each): f"not measured: {own if isinstance(own, str) else _why_missing(each.name)}"
            for each in NUMBERS
        } | found  # fmt: skip
    return extended(results, definitions(), outcomes)


def slim_samples(judged: Mapping[Role, Judged | str], *, bootstrap: Bootstrap) -> dict[Role, HeadlineSamples]:
    """Draw bootstrap samples of the numbers over the tested questions of every set, by role.

    The judges stay as they are: only the choice of the tested questions varies.

    Args:
        judged: The tested questions by role, or the reason why there is no judge.
        bootstrap: The samples.
    """
    return {role: _samples(own, bootstrap) for role, own in judged.items() if not isinstance(own, str)}


def _samples(judged: Judged, bootstrap: Bootstrap) -> HeadlineSamples:
    places: dict[str, list[int]] = {}
    for place, row in enumerate(judged.rows):
        places.setdefault(row.set, []).append(place)
    weights = np.zeros((bootstrap.bootstrap_samples, len(judged.rows)))
    for name, own in places.items():
        weights[:, own] = bootstrap.counts(name, len(own))
    point = _point(judged)
    drawn = {
        name: each for name, each in _statistics(judged, weights).items() if name in point and np.isfinite(each).any()
    }
    constant = [name for name in drawn if point[name] in (0.0, 1.0) and _rows_of(judged, name)]
    return HeadlineSamples(drawn, {name: len(_rows_of(judged, name)) for name in constant})


def definitions() -> list[Definition]:
    """Define the numbers."""
    return [
        Definition(
            name=number_name(each), id=f"{GROUP}.{VERSION}.{each.name}", unit=each.unit, direction=each.direction,
            text=each.text, label=each.label, order=ORDER, main=False,
        )
        for each in NUMBERS
    ]  # fmt: skip


def number_name(number: _Number) -> str:
    """Name a number in the results of a run, such as ``slim/leak_on``."""
    return f"{GROUP}/{number.name}"


def _point(judged: Judged) -> dict[str, float]:
    ones = np.ones((1, len(judged.rows)))
    found = {name: float(each[0]) for name, each in _statistics(judged, ones).items()}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _statistics(judged: Judged, weights: Floats) -> dict[str, Floats]:
    """Compute all numbers of weighted questions, each (samples,); NaN where a number is not defined."""
    knows = [row.knows for row in judged.rows]
    proxy, own = ([p >= judged.threshold for p in each] for each in (judged.proxy, judged.own))
    found = {
        "auroc": weighted_auc(judged.proxy, knows, weights), "own_auroc": weighted_auc(judged.own, knows, weights),
        "agreement": weighted_mean([a == b for a, b in zip(proxy, own, strict=True)], weights),
        "kappa": weighted_kappa(proxy, own, weights),
    }  # fmt: skip
    helped = _helped(judged)
    read = [contains_values(judged.rows[place].text_on, judged.rows[place].expected) for place in helped]
    found["reads"] = weighted_mean(read, weights[:, helped])
    for name, purpose in GATED.items():
        of_set = [place for place, row in enumerate(judged.rows) if row.purpose == purpose]
        found[f"known_{purpose}"] = weighted_mean([proxy[place] for place in of_set], weights[:, of_set])
        for arm in ARMS:
            gives = contains_any_value if purpose == "forget" else contains_values
            said = [gives(judged.answer(place, arm), judged.rows[place].expected) for place in of_set]
            found[f"{name}_{arm}"] = weighted_mean(said, weights[:, of_set])
    return {f"{GROUP}/{name}": each for name, each in found.items()}


def _helped(judged: Judged) -> list[int]:
    """List the questions that the model does not know and whose passages state the value."""
    return [
        place
        for place, row in enumerate(judged.rows)
        if not row.knows and contains_values("\n\n".join(row.passages), row.expected)
    ]


def _rows_of(judged: Judged, name: str) -> list[int]:
    """List the questions that a share counts; empty for a number that is no share of questions."""
    short = name.removeprefix(f"{GROUP}/")
    if short == "agreement":
        return [*range(len(judged.rows))]
    if short == "reads":
        return _helped(judged)
    purpose = GATED.get(short.partition("_")[0], short.removeprefix("known_"))
    return [place for place, row in enumerate(judged.rows) if row.purpose == purpose]


def _why_missing(name: str) -> str:
    if "auroc" in name:
        return "the model answers all or none of the tested questions correctly"
    if name == "kappa":
        return "both judges give all tested questions the same verdict"
    if name == "reads":
        return "no tested question that the model does not know retrieves its value"
    return "no question of this set is tested"
