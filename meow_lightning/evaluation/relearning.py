"""Relearning on some of the forgotten facts, tested on the others (RTT; arXiv 2410.08827)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from meow_lightning.evaluation.extension import extended
from meow_lightning.evaluation.metrics.value_accuracy import row_value_accuracy
from meow_lightning.evaluation.robustness import SMALLEST, recovered
from meow_lightning.evaluation.sets import set_info
from meow_lightning.evaluation.subject import Subject
from meow_lightning.evaluation.suite.bootstrap import Bootstrap, HeadlineSamples, unanimous_rows
from meow_lightning.types import ROLES, AnswerRow, Definition, Direction, Results, Role

UNTRAINED, BEFORE, RTT = "untrained/value_accuracy", "untrained/value_accuracy_before", "untrained/rtt"
VERSION = 2  # of these numbers; raised when the same answers give other ones
Values = Mapping[str, Sequence[float | None]]  # by subject, one per question, None where none is marked
SHOWN: Mapping[str, tuple[str, Direction, str]] = {
    UNTRAINED: (
        "value accuracy of facts not trained on", "lower",
        "Share of the answers with the true value after relearning on the other facts to forget, over those that were "
        "not trained on.",
    ),
    BEFORE: ("the same before", "lower", "The same share of the same questions before relearning."),
    RTT: (
        "recovered of facts not trained on (RTT)", "lower",
        "(after - before) / (target - before) of the share of answers with the true value, over the facts to forget "
        "that relearning did not train on; after and before relearning on the others. 0: training on some brings back "
        "nothing of the rest; 1: as much as the target model had. The retain model's is what such training teaches a "
        "model that never saw the facts.",
    ),
}  # fmt: skip


def untrained_values(rows: Mapping[str, Sequence[AnswerRow]], trained: Collection[str]) -> dict[str, list[float]]:
    """Select value accuracy question by question, of the facts to forget that were not trained on, by subject.

    Args:
        rows: Prediction rows by subject.
        trained: ``Fact.id`` of the facts that were trained on.
    """
    return {
        subject: [
            value
            for row in each
            if set_info(row.set).purpose == "forget" and row.fact not in trained
            if (value := row_value_accuracy(row, forgotten=True)) is not None
        ]
        for subject, each in rows.items()
    }


def with_untrained(
    results: Results, rows: Mapping[str, Sequence[AnswerRow]], trained: Mapping[str, Collection[str]]
) -> Results:
    """Add what relearning on some facts brings back of the others.

    Args:
        results: The numbers of a run, with those after attacks.
        rows: Prediction rows by subject.
        trained: ``Fact.id`` of the facts that were trained on, by name of the attack; only attacks that leave some out.
    """
    outcomes: dict[str, Mapping[str, float | str]] = {}
    for condition, facts in trained.items():
        accuracy = {subject: _mean(each) for subject, each in untrained_values(rows, facts).items()}
        for role in ROLES:
            subject = str(Subject(role, condition))
            outcomes[subject] = _outcomes(accuracy, role, subject)
    return extended(results, _definitions() if trained else (), outcomes)


def untrained_samples(
    rows: Mapping[str, Sequence[AnswerRow]], trained: Mapping[str, Collection[str]], *, bootstrap: Bootstrap
) -> dict[str, HeadlineSamples]:
    """Draw bootstrap samples of what relearning brings back of the other facts, by subject.

    Args:
        rows: Prediction rows by subject.
        trained: As for :func:`with_untrained`.
        bootstrap: The samples of every set's questions.
    """
    found: dict[str, HeadlineSamples] = {}
    for condition, facts in trained.items():
        values = untrained_values(rows, facts)
        for role in ("unlearned", "retain"):
            subject = str(Subject(role, condition))
            drawn = [bootstrap.means(f"{condition}/rest", values.get(each, ())) if values.get(each) else None
                     for each in (role, subject, "target")]  # fmt: skip
            if any(each is None for each in drawn):
                continue
            before, after, target = (np.asarray(each) for each in drawn)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.where(target - before < SMALLEST, np.nan, (after - before) / (target - before))
            unanimous = unanimous_rows(values[subject])
            found[subject] = HeadlineSamples(
                {UNTRAINED: after} | ({RTT: ratio} if np.isfinite(ratio).any() else {}),
                {UNTRAINED: unanimous} if unanimous else {},
            )
    return found


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _outcomes(accuracy: Mapping[str, float | None], role: Role, subject: str) -> dict[str, float | str]:
    """Compute the numbers of one model after one attack, or the reasons why they are missing."""
    before, after, target = accuracy.get(role), accuracy.get(subject), accuracy.get("target")
    if before is None or after is None:
        reason = f"not measured: this run has no answers of the {role} model to facts with a value not trained on"
        return dict.fromkeys(SHOWN, reason)
    found: dict[str, float | str] = {UNTRAINED: after, BEFORE: before}
    if role == "target":
        return {**found, RTT: "not measured: nothing was taken from the target model"}
    share = None if target is None else recovered(target, before, after)
    reason = "not measured: the target model states these facts hardly more often, so there is nothing to bring back"
    return {**found, RTT: reason if share is None else share}


def _definitions() -> list[Definition]:
    return [
        Definition(
            name=name, id=f"{name.rpartition('/')[2]}_untrained.{VERSION}", unit="share", direction=direction,
            text=text, label=label, order=1, main=False,
        )
        for name, (label, direction, text) in SHOWN.items()
    ]  # fmt: skip
