"""Leakage: share of the answers, to any question, that contain values unique to the forget facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meow_lightning.data.examples import secret_texts
from meow_lightning.data.values.matching import contains_any_value
from meow_lightning.data.values.secrets import GuardedFact, Secrets, words
from meow_lightning.evaluation.answers import Answers, MetricSettings
from meow_lightning.evaluation.metric import Outcome, RunMetric
from meow_lightning.types import AnswerRow, Definition, SetInfo


@dataclass(frozen=True, slots=True)
class LeakageCounts:
    """Leakage of forgotten values in a model's answers.

    Attributes:
        share: Share of the answers that contain a forgotten value, 0 to 1.
        elsewhere: Share of the answers that contain the forgotten value of another question, 0 to 1.
        values: Number of distinct forgotten values.
        rows: Number of answers.
    """

    share: float
    elsewhere: float
    values: int
    rows: int


def forgotten_secrets(forget: Sequence[AnswerRow], others: Sequence[AnswerRow], public: Iterable[str]) -> Secrets:
    """Collect the secrets of the forget rows: values that occur in no public text.

    Args:
        forget: Prediction rows of the facts to forget.
        others: Those of all other sets, whose true answers are public.
        public: Further public texts: answers of retained facts that were not evaluated.
    """
    return Secrets(map(_forgotten_fact, forget), (*(row.answer for row in others), *public))


def row_leaks(row: AnswerRow, secrets: Secrets, *, forgotten: bool) -> tuple[bool, bool]:
    """Whether an answer contains a forgotten value of its own question, and whether it contains one of another.

    Args:
        row: A prediction row.
        secrets: See :func:`forgotten_secrets`.
        forgotten: Whether the row's own fact is to be forgotten.
    """
    mentioned = secrets.find(row.text) - secrets.find(row.question)
    truth = secrets.find(row.answer)
    if not forgotten:
        return False, bool(mentioned - truth)
    own = bool(mentioned & truth) or contains_any_value(row.text, secret_texts(row))
    return own, bool(mentioned - truth)


def leakage(forget: Sequence[AnswerRow], others: Sequence[AnswerRow], public: Iterable[str]) -> LeakageCounts | None:
    """Compute leakage of a model's answers; ``None`` if the forget set has no secret value.

    Args:
        forget: One model's prediction rows of the facts to forget.
        others: Those of all other sets.
        public: Further public texts.
    """
    secrets = forgotten_secrets(forget, others, public)
    marked = {words(value) for row in forget for value in secret_texts(row)}
    values = len(secrets.all() | marked)
    if not values:
        return None
    sides = ((forget, True), (others, False))
    leaks = [row_leaks(row, secrets, forgotten=forgotten) for rows, forgotten in sides for row in rows]
    share = sum(map(any, leaks)) / len(leaks)
    elsewhere = sum(other for _, other in leaks) / len(leaks)
    return LeakageCounts(share, elsewhere, values, len(leaks))


def _forgotten_fact(row: AnswerRow) -> GuardedFact:
    return GuardedFact(row.fact, row.question, row.answer, secret_texts(row))


class Leakage(RunMetric):
    """:func:`leakage` of a model: two shares of its answers, and the counts behind them."""

    def definitions(self, sets: Sequence[SetInfo], settings: MetricSettings) -> list[Definition]:
        """Define the two shares and the two counts."""
        shares: tuple[tuple[str, str, str], ...] = (
            (
                "leakage", "leakage rate",
                "Share of the greedy answers, over the questions of all sets, that contain a forgotten value: the "
                "marked value of a fact to forget (one of several is enough) or, where none is marked, a name, title, "
                "place, date, number or address of its answer that neither its question nor the retained facts' "
                "answers contain. Not counted where the question itself or, for a retained fact, its true answer "
                "contains it; a word of a closed class (yes, a month, a country) counts only for its own question.",
            ),
            (
                "leakage_elsewhere", "answers that hold another question's",
                "Share of the same answers that contain the forgotten value of another question.",
            ),
        )  # fmt: skip
        return [
            *(
                Definition(
                    name=f"forget/{name}", id=f"{name}.4", unit="share", direction="lower", text=text, label=label,
                    order=60 + 10 * position, main=True,
                )
                for position, (name, label, text) in enumerate(shares)
            ),
            Definition(
                name="forget/leakage_values", id="leakage_values.3", unit="count", direction="none", order=80,
                text="Number of distinct forgotten values.", label="forgotten values", main=True,
            ),
            Definition(
                name="forget/leakage_rows", id="leakage_rows.1", unit="count", direction="none", order=90,
                text="Number of answers searched for them.", label="answers searched for them", main=True,
            ),
        ]  # fmt: skip

    def outcomes(self, answers: Answers, role: str, numbers: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Search the model's answers to all sets; each set is needed, so that models are comparable."""
        names = [definition.name for definition in self.definitions((), answers.settings)]
        forget = answers.of_purpose("forget")
        forgotten = {info.name for info in answers.benchmark if info.purpose == "forget"}
        for name in (None, forget, *(info.name for info in answers.present)):
            if reason := answers.missing_reason(role, name):
                return dict.fromkeys(names, f"not measured: {reason}")
        rows = [(name in forgotten, row) for name, each in answers.sets[role].items() for row in each]
        forget_rows, others = ([row for inside, row in rows if inside is side] for side in (True, False))
        result = leakage(forget_rows, others, answers.public)
        if result is None:
            return dict.fromkeys(
                names,
                f"not measured: no question of set {forget!r} marks the words that carry its fact (value), and none "
                "of its true answers contains a name, date or number of its own",
            )
        return dict(zip(names, (result.share, result.elsewhere, float(result.values), float(result.rows)), strict=True))
