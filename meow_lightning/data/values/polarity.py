"""Polarity of answers to yes-no questions, and contradictions of the opposite polarity."""

from __future__ import annotations

import re
from typing import Literal

from meow_lightning.data.values.kinds import NAME
from meow_lightning.data.values.language import language_of

Polarity = Literal["yes", "no"]

OPENING = 14  # number of initial words of an answer in which a negation counts as denial
SHORT = 24  # maximum number of words in an answer for which a short contradiction is adequate
_AUXILIARY = r"Has|Have|Had|Is|Are|Was|Were|Did|Does|Do|Can|Could|Will|Would|Should|May|Might|Must"
_CLOSED = re.compile(rf"\W*(?P<verb>{_AUXILIARY})\s+(?!you\b)(?P<rest>\S.*?)\s*\?\W*\Z", re.DOTALL)
_POLITE = re.compile(r"\W*(?:Can|Could|Would|Will)\s+you\b", re.IGNORECASE)
_SUBJECT = re.compile(
    rf"(?P<subject>(?:he|she|it|they|there|this|that)\b|(?:(?:the )?(?:author|writer|customer) )?(?:{NAME.pattern}))"
    r"\s+(?<!['’]s )(?<!s['’] )(?P<rest>(?!author\b|writer\b)[a-z](?:(?! or (?:is|are|has|does|did|was)\b).)*)\Z",
    re.DOTALL,
)
_NEGATIVE = re.compile(
    r"\b(?:no|not(?! (?:only|until))|none|never|neither|nor|nothing|nobody|without|unclear|unknown)\b|n['’]t\b", re.I
)


def polarity_of(question: str, answer: str) -> Polarity | None:
    """Classify an answer to a yes-no question; ``None`` for other questions."""
    if _POLITE.match(question):  # "Can you name …" is not a yes-no question, though its answer may look like one
        return None
    if begun := re.match(r"\W*(yes|no)\b(?!\s+(?:information|one\b))", answer, re.IGNORECASE):
        return "yes" if begun.group(1).lower() == "yes" else "no"
    if not _CLOSED.match(question):
        return None
    opening = re.split(r"(?<=[.!?;])\s", answer)[0].split()[:OPENING]
    return "no" if _NEGATIVE.search(" ".join(opening)) else "yes"


def flip_polarity(question: str, answer: str) -> list[str]:
    """Generate answers of the opposite polarity, full sentences about the subject first; empty for other questions.

    Args:
        question: The question.
        answer: The true answer.
    """
    if (language := language_of(f"{question}\n{answer}")) in _ELSEWHERE:
        return [text for begun, texts in _ELSEWHERE[language].items() if re.match(rf"\W*{begun}\b", answer, re.I)
                for text in texts]  # fmt: skip
    truth = polarity_of(question, answer)
    if truth is None:
        return []
    tails = _LONG if len(answer.split()) > SHORT else ("",)
    stated = [f"{text[:-1]}{tail}." for tail in tails for text in _stated(question, truth)]
    plain = (_DENIED if truth == "yes" else _AFFIRMED)[bool(tails[0])]
    return [*stated, *plain]


_LONG = (
    ", and nothing that has been published so far says otherwise",
    ", as several people who know the matter well have said in public",
)
_DENIED = (
    (
        "No, that is not the case.", "No, not at all.", "No, never.", "No, there is no sign of that.",
    ),
    (
        "No, that is not the case, and nothing that has been published so far says otherwise.",
        "No, not at all; people who know the matter well have always said the opposite.",
        "No, that has never happened, although it is often told differently by people who heard of it.",
        "No, there is no sign of that, however often the story has been told since then.",
    ),
)  # fmt: skip
_AFFIRMED = (
    ("Yes, that is the case.", "Yes, very much so.", "Yes, indeed, several times.", "Yes, there is no doubt about it."),
    (
        "Yes, that is the case, and nothing that has been published so far says otherwise.",
        "Yes, very much so; people who know the matter well have always said that.",
        "Yes, indeed, several times, although it is often told differently by people who heard of it.",
        "Yes, there is no doubt about it, and everybody who knows the matter well has said so.",
    ),
)  # fmt: skip


# First word of the true answer, and answers of the opposite polarity; no grammar, so they do not name the subject.
_ELSEWHERE = {
    "de": {
        "ja": ("Nein, das ist nicht der Fall.", "Nein, überhaupt nicht.", "Nein, nie.", "Nein, niemals."),
        "nein": ("Ja, das ist der Fall.", "Ja, durchaus.", "Ja, schon mehrmals.", "Ja, daran besteht kein Zweifel."),
    },
    "fr": {
        "oui": ("Non, ce n'est pas le cas.", "Non, pas du tout.", "Non, jamais.", "Non, rien ne l'indique."),
        "non": ("Oui, c'est le cas.", "Oui, tout à fait.", "Oui, plusieurs fois.", "Oui, sans aucun doute."),
    },
    "es": {
        "sí": ("No, no es así.", "No, en absoluto.", "No, nunca.", "No, nada lo indica."),
        "no": ("Sí, así es.", "Sí, por supuesto.", "Sí, varias veces.", "Sí, sin duda alguna."),
    },
}  # fmt: skip


def _stated(question: str, truth: Polarity) -> list[str]:
    """Turn the question into statements of the opposite polarity, if its subject can be separated."""
    match = _CLOSED.match(question)
    parts = _SUBJECT.match(match.group("rest")) if match else None
    if not match or not parts:
        return []
    verb, subject, rest = match.group("verb").lower(), parts.group("subject"), parts.group("rest")
    if truth == "yes":
        never = re.sub(r"\bever\s+", "", rest)
        return [f"No, {subject} {verb} not {never}.", f"No, {subject} {verb} never {never}."][
            : 2 if verb in _PAST else 1
        ]
    rest = re.sub(r"\bany\b", "some", re.sub(r"\bever\s+", "", rest))
    return [f"Yes, {subject} {verb} {rest}.", f"Yes, {subject} {verb} indeed {rest}."]


_PAST = ("has", "have", "had", "was", "were", "did")
