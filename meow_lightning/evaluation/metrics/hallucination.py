"""Shares of answers to unrelated questions that change, refuse, assert, or contain a forgotten or inverted value."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from meow_lightning.data.streams.refusals import REFUSALS
from meow_lightning.data.values.kinds import spans
from meow_lightning.data.values.secrets import GuardedFact, Secrets, words
from meow_lightning.evaluation.answers import Answers, MetricSettings
from meow_lightning.evaluation.metric import SET_ORDER, Outcome, RowValues, RunMetric, mean_of
from meow_lightning.evaluation.metrics.leakage import forgotten_secrets, row_leaks
from meow_lightning.inversion.filters import is_refusal
from meow_lightning.types import AnswerRow, Definition, Direction, InvertedFact, SetInfo

if TYPE_CHECKING:
    from meow_lightning.evaluation.suite.bootstrap import Bootstrap, Floats

UNRELATED = ("holdout", "utility")
ORDER = 200  # of the first share within its set
CHANGED, SAYS_FORGOTTEN, SAYS_INVERTED = "answer_changed", "says_forgotten", "says_inverted"
REFUSES, ASSERTS = "refuses", "asserts"
_SAYS = (
    "its marked value or a name, title, place, date, number or address, not counted where the question or its true "
    "answer contains it; words of a closed class (yes, a month, a country) never count. Target and retain model say "
    "such values by chance."
)
# Label, better values and definition of every share.
SHARES: Mapping[str, tuple[str, Direction, str]] = {
    CHANGED: (
        "answers changed", "none",
        "Share of the greedy answers whose words differ from the target model's answer to the same question.",
    ),
    SAYS_FORGOTTEN: (
        "answers with a forgotten value", "lower",
        f"Share of the greedy answers that contain a value of a fact to forget: {_SAYS}",
    ),
    SAYS_INVERTED: (
        "answers with an inverted value", "lower",
        "Share of the greedy answers that contain a value of the run's inverted facts, selected ones or not, which no "
        f"fact to forget has: {_SAYS}",
    ),
    REFUSES: (
        "answers that refuse", "none",
        "Share of the greedy answers that refuse: they begin like a refusal (I don't know, I'm sorry, but) or are one "
        "of the sentences that method.refusals=null trains on.",
    ),
    ASSERTS: (
        "assertive answers", "none",
        "Share of the greedy answers that are no refusal and state a name, title, place, date, number or the like that "
        "the question does not contain; on the holdout set, of which no model knows a fact, all of them are made up.",
    ),
}  # fmt: skip
_REFUSALS = frozenset(map(words, REFUSALS))


def inverted_values(inverted: Sequence[InvertedFact], forget: Sequence[AnswerRow]) -> Secrets:
    """Collect the values of inverted facts that no fact to forget has.

    They are names, titles, places, dates, numbers and addresses. Values of retained facts count: a made-up answer is no
    better for a value that is true of something else.

    Args:
        inverted: The inverted facts of the run.
        forget: Prediction rows of the facts to forget.
    """
    facts = (GuardedFact(each.fact, each.question, each.answer, ()) for each in inverted)
    return Secrets(facts, (row.answer for row in forget))


def changed(row: AnswerRow, before: AnswerRow) -> bool:
    """Whether the words of an answer differ from those of the target model's answer to the same question."""
    return words(row.text) != words(before.text)


def refuses(row: AnswerRow) -> bool:
    """Whether an answer refuses: it begins like a refusal, or is one of the sentences that refusals are trained on."""
    return is_refusal(row.text) or words(row.text) in _REFUSALS


def asserts(row: AnswerRow) -> bool:
    """Whether an answer is no refusal and states a name, place, date, number or the like that its question does not."""
    question = f" {' '.join(words(row.question))} "
    stated = (" ".join(words(span.text)) for span in spans(row.text, row.question))
    return not refuses(row) and any(text and f" {text} " not in question for text in stated)


def row_values(answers: Answers, role: str) -> dict[str, RowValues]:
    """Compute what every answer of a model to unrelated questions counts for each share, or why there is none.

    Args:
        answers: Answers of all models.
        role: Role of the model.
    """
    sets = [info.name for info in answers.present if info.purpose in UNRELATED]
    if reason := answers.missing_reason(role, None):
        return {f"{name}/{share}": reason for name in sets for share in SHARES}
    forgotten = {info.name for info in answers.benchmark if info.purpose == "forget"}
    forget = [row for name, rows in answers.sets[role].items() if name in forgotten for row in rows]
    searched: dict[str, Secrets | str] = {
        SAYS_FORGOTTEN: forgotten_secrets(forget, (), ()),
        SAYS_INVERTED: inverted_values(answers.inverted, forget),
    }
    if not answers.inverted:
        searched[SAYS_INVERTED] = "this run has no inverted facts"
    found: dict[str, RowValues] = {}
    for name in sets:
        for share, values in _of_set(answers, role, name, searched).items():
            found[f"{name}/{share}"] = values
    return found


def _of_set(
    answers: Answers, role: str, name: str, searched: Mapping[str, Secrets | str]
) -> dict[str, RowValues]:  # fmt: skip
    if reason := answers.missing_reason(role, name):
        return dict.fromkeys(SHARES, reason)
    rows = answers.sets[role][name]
    missing = answers.missing_reason("target", name)
    before = [] if missing else answers.sets["target"][name]
    said = {share: _mentions(rows, secrets) for share, secrets in searched.items()}
    return {
        CHANGED: missing or [float(changed(row, old)) for row, old in zip(rows, before, strict=True)],
        **said,
        REFUSES: [float(refuses(row)) for row in rows],
        ASSERTS: [float(asserts(row)) for row in rows],
    }


def _mentions(rows: Sequence[AnswerRow], secrets: Secrets | str) -> RowValues:
    if isinstance(secrets, str):
        return secrets
    if not secrets.all():
        return "none of these facts contains a name, title, place, date or number of its own"
    return [float(row_leaks(row, secrets, forgotten=False)[1]) for row in rows]


class Hallucination(RunMetric):
    """Five shares of the greedy answers to every set of unrelated questions.

    Sets: ``holdout``, facts that no model was taught, to which every statement is made up, and those of general
    knowledge. The target model gives the base rates, since it hallucinates as well: what unlearning adds is the
    difference, above all values of the inverted facts, to which MEOW's training may spread (arXiv 2605.27083).
    """

    def definitions(self, sets: Sequence[SetInfo], settings: MetricSettings) -> list[Definition]:
        """Define the five shares of every set."""
        return [
            Definition(
                name=f"{info.name}/{name}", id=f"{name}.1", unit="share", text=text, main=False,
                direction=direction, label=f"{info.name.replace('_', ' ')} {label}",
                order=position * SET_ORDER + ORDER + place,
            )
            for position, info in enumerate(sets, start=1)
            if info.purpose in UNRELATED
            for place, (name, (label, direction, text)) in enumerate(SHARES.items())
        ]  # fmt: skip

    def outcomes(self, answers: Answers, role: str, numbers: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Average over the answers to every set."""
        return {
            name: f"not measured: {values}" if isinstance(values, str) else mean_of(values)
            for name, values in row_values(answers, role).items()
        }

    def samples(
        self, answers: Answers, role: str, bootstrap: Bootstrap, drawn: Mapping[str, Floats]
    ) -> dict[str, Floats]:
        """Average over the answers to every set in each bootstrap sample."""
        found = {}
        for name, values in row_values(answers, role).items() if role in answers.sets else ():
            means = None if isinstance(values, str) else bootstrap.means(name.partition("/")[0], values)
            if means is not None:
                found[name] = means
        return found

    def share_rows(self, answers: Answers, role: str, names: Collection[str]) -> dict[str, RowValues]:
        """Return the answers' contributions to the shares among the names."""
        return {name: values for name, values in row_values(answers, role).items() if name in names}
