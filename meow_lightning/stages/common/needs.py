"""The results that `evaluate` and `report` read, as records, and the names under which a stage receives them.

Both sides use the same records: the graph fills them with artifacts, a stage reads them back as folders. Only this
module writes and reads the names. They are part of the keys of `evaluate` and `report`: changing one recomputes both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count, takewhile
from typing import Any, Generic, Literal, TypeVar, cast, get_args

from meow_lightning.evaluation.subject import Subject
from meow_lightning.stages.common.sequence_needs import SequenceInputs
from meow_lightning.types import ROLES, Role

ScoreKind = Literal["answers", "candidates"]
Scored = tuple[Role, ScoreKind]
Verified = tuple[Subject, ScoreKind]
T = TypeVar("T")

SCORED: tuple[Scored, ...] = tuple((role, kind) for kind in get_args(ScoreKind) for role in ROLES)


def _present(names: Mapping[str, T | None]) -> dict[str, T]:
    return {name: each for name, each in names.items() if each is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunModels(Generic[T]):
    """The models of a run.

    Attributes:
        base: The model before it learns any fact; ``None`` if no model of the run is fine-tuned here.
        target: The model that knows the facts.
        unlearned: The target model after unlearning.
        retain: The model that never saw the forget set; ``None`` for a run without one.
        attacked: These three after attacks; empty for a run without attacks.
    """

    base: T | None
    target: T
    unlearned: T
    retain: T | None
    attacked: Mapping[Subject, T] = field(default_factory=dict)

    @property
    def by_role(self) -> dict[Role, T]:
        """The evaluated models, by role."""
        models: dict[Role, T] = {"target": self.target, "unlearned": self.unlearned}
        return models if self.retain is None else {**models, "retain": self.retain}

    @property
    def present(self) -> tuple[T, ...]:
        """All models of the run that are not ``None``."""
        return (*(() if self.base is None else (self.base,)), *self.by_role.values(), *self.attacked.values())

    def after(self, condition: str) -> dict[Role, T]:
        """Return the models after an attack, by role.

        Args:
            condition: Name of the attack.
        """
        return {subject.role: each for subject, each in self.attacked.items() if subject.condition == condition}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationInputs(Generic[T]):
    """The results that `evaluate` computes its metrics from.

    Attributes:
        predictions: Predictions on the evaluation sets, by role.
        scores: MEMO scores, by role and kind of text.
        abilities: Results of ability tasks, by role and task.
        measured: Attacked models with numbers of their own, by role; empty for the models themselves.
        layers: What attacks on hidden states read, by role and name of the attack.
        extractions: What attacks that ask a model found, by role and name of the attack.
        slim: What models and their proxies answered, by role.
        attacked: The predictions, scores and abilities of the attacked models, by the name of the attack.
        sequence: The models after every request to forget; ``None`` for a run that forgets all facts at once.
        filtered: The inverted facts of all rounds; ``None`` for a method without.
    """

    predictions: Mapping[Role, T]
    scores: Mapping[Scored, T]
    abilities: Mapping[tuple[Role, str], T] = field(default_factory=dict)
    measured: Mapping[Role, T] = field(default_factory=dict)
    layers: Mapping[tuple[Role, str], T] = field(default_factory=dict)
    extractions: Mapping[tuple[Role, str], T] = field(default_factory=dict)
    slim: Mapping[Role, T] = field(default_factory=dict)
    attacked: Mapping[str, EvaluationInputs[T]] = field(default_factory=dict)
    sequence: SequenceInputs[T] | None = None
    filtered: T | None = None

    @property
    def by_condition(self) -> dict[str, EvaluationInputs[T]]:
        """The results of the models themselves, under an empty name, and after every attack."""
        return {"": self, **self.attacked}

    def to_needs(self, condition: str = "") -> dict[str, T]:
        """Name every result for the stage.

        Args:
            condition: Name of the attack on the models; empty for none.
        """
        named = {
            **{_predictions(Subject(role, condition)): each for role, each in self.predictions.items()},
            **{_scores(Subject(role, condition), kind): each for (role, kind), each in self.scores.items()},
            **{_ability(Subject(role, condition), task): each for (role, task), each in self.abilities.items()},
            **{_measured(Subject(role, condition)): each for role, each in self.measured.items()},
            **{_read_layers(Subject(role, condition), name): each for (role, name), each in self.layers.items()},
            **{_extraction(role, name): each for (role, name), each in self.extractions.items()},
            **{f"{_SLIM}{role}": each for role, each in self.slim.items()},
        }
        for name, each in self.attacked.items():
            named |= each.to_needs(name)
        if self.sequence is not None:
            named |= self.sequence.to_needs()
        return named if self.filtered is None else {**named, "filtered": self.filtered}

    @classmethod
    def from_needs(cls, needs: Mapping[str, T]) -> EvaluationInputs[T]:
        """Read the record back from a stage's needs, ignoring other needs."""
        subjects = [Subject.parse(name.split("/")[1]) for name in needs if name.startswith(_PREDICT)]
        conditions = dict.fromkeys(each.condition for each in subjects if each.condition)
        attacked = {each: cls(**_evaluated(needs, each)) for each in conditions}
        found = [(name.split("/"), each) for name, each in needs.items() if name.startswith(_EXTRACT)]
        extractions = {(cast(Role, parts[1]), parts[2]): each for parts, each in found}
        slim = {role: needs[f"{_SLIM}{role}"] for role in ROLES if f"{_SLIM}{role}" in needs}
        return cls(
            **_evaluated(needs, ""), extractions=extractions, slim=slim, attacked=attacked,
            sequence=SequenceInputs.from_needs(needs), filtered=needs.get("filtered"),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundInputs(Generic[T]):
    """The results of one round that `report` shows, for a method that unlearns in rounds.

    Attributes:
        proposed: The teacher's replies.
        filtered: The inverted facts kept so far.
        unlearned: The model trained on the selected ones.
        scores: MEMO of the true answers on that model.
        verification: Windows of these scores, computed again; ``None`` if ``memo.verify`` is 0.
    """

    proposed: T
    filtered: T
    unlearned: T
    scores: T
    verification: T | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInputs(Generic[T]):
    """The results that `report` shows.

    Attributes:
        results: The metrics.
        probe: The target model's answers that the dataset's splits depend on; ``None`` for other datasets.
        baseline: MEMO of the inverted facts on a model that never saw the facts; ``None`` if selection uses none.
        proposed: The teacher's replies in the last round; ``None`` for a method without inverted facts.
        models: The models.
        evaluation: The inputs of the metrics.
        verifications: Windows of these scores, computed again, also of those of attacked models.
        rounds: The rounds; empty for a method that does not unlearn in rounds.
    """

    results: T
    probe: T | None
    baseline: T | None
    proposed: T | None
    models: RunModels[T]
    evaluation: EvaluationInputs[T]
    verifications: Mapping[Verified, T]
    rounds: tuple[RoundInputs[T], ...]

    def to_needs(self) -> dict[str, T]:
        """Name every result for the stage, in the order in which the report lists them."""
        named: dict[str, T | None] = {
            "probe": self.probe, "results": self.results, "proposed": self.proposed,
            "filtered": self.evaluation.filtered,
            "base": self.models.base, "baseline": self.baseline,
            **{str(role): each for role, each in self.models.by_role.items()},
            **{str(subject): each for subject, each in self.models.attacked.items()},
            **self.evaluation.to_needs(),
            **{_verification(*verified): each for verified, each in self.verifications.items()},
            **{_in_round(number, "verify"): each.verification for number, each in enumerate(self.rounds, start=1)},
        }  # fmt: skip
        for number, each in enumerate(self.rounds, start=1):
            stages = {
                "propose": each.proposed,
                "filter": each.filtered,
                "unlearn": each.unlearned,
                "score": each.scores,
            }
            named |= {_in_round(number, stage): result for stage, result in stages.items()}
        return _present(named)

    @classmethod
    def from_needs(cls, needs: Mapping[str, T]) -> ReportInputs[T]:
        """Read the record back from the stage's needs."""
        numbers = takewhile(lambda number: _in_round(number, "score") in needs, count(1))
        return cls(
            results=needs["results"], probe=needs.get("probe"), baseline=needs.get("baseline"),
            proposed=needs.get("proposed"),
            models=RunModels(
                base=needs.get("base"), target=needs["target"], unlearned=needs["unlearned"],
                retain=needs.get("retain"),
                attacked={Subject.parse(name): each for name, each in needs.items() if "@" in name and "/" not in name},
            ),
            evaluation=EvaluationInputs.from_needs(needs),
            verifications={_verified(name): each for name, each in needs.items() if name.startswith(_VERIFY)},
            rounds=tuple(
                RoundInputs(
                    proposed=needs[_in_round(number, "propose")], filtered=needs[_in_round(number, "filter")],
                    unlearned=needs[_in_round(number, "unlearn")], scores=needs[_in_round(number, "score")],
                    verification=needs.get(_in_round(number, "verify")),
                )
                for number in numbers
            ),
        )  # fmt: skip


_PREDICT = "predict/"
_VERIFY = "verify/"
_EXTRACT = "extract/"
_SLIM = "slim/"


def _evaluated(needs: Mapping[str, T], condition: str) -> dict[str, Any]:
    """Collect predictions, scores, abilities and numbers of the models under a condition."""
    subjects = {role: Subject(role, condition) for role in ROLES}
    return {
        "predictions": {
            role: needs[_predictions(each)] for role, each in subjects.items() if _predictions(each) in needs
        },
        "scores": {
            (role, kind): needs[_scores(subjects[role], kind)]
            for role, kind in SCORED
            if _scores(subjects[role], kind) in needs
        },
        "abilities": {
            (role, name.removeprefix(_ability(subjects[role], ""))): each
            for name, each in needs.items()
            for role in ROLES
            if name.startswith(_ability(subjects[role], ""))
        },
        "measured": {role: needs[_measured(each)] for role, each in subjects.items() if _measured(each) in needs},
        "layers": {
            (role, name.removeprefix(_read_layers(subjects[role], ""))): each
            for name, each in needs.items()
            for role in ROLES
            if name.startswith(_read_layers(subjects[role], ""))
        },
    }


def _predictions(subject: Subject) -> str:
    return f"{_PREDICT}{subject}"


def _scores(subject: Subject, kind: ScoreKind) -> str:
    return f"score/{subject}/{kind}"


def _ability(subject: Subject, task: str) -> str:
    return f"ability/{subject}/{task}"


def _measured(subject: Subject) -> str:
    return f"numbers/{subject}"


def _read_layers(subject: Subject, attack: str) -> str:
    return f"inspect/{subject}/{attack}"


def _extraction(role: Role, attack: str) -> str:
    return f"{_EXTRACT}{role}/{attack}"


def _verification(subject: Subject, kind: ScoreKind) -> str:
    return f"{_VERIFY}{subject}/{kind}"


def _verified(name: str) -> Verified:
    subject, _, kind = name.removeprefix(_VERIFY).partition("/")
    return Subject.parse(subject), cast(ScoreKind, kind)


def _in_round(number: int, stage: str) -> str:
    return f"round/{number}/{stage}"
