"""Language models that translate questions for an attack, and how their replies are read."""

from __future__ import annotations

import re
from typing import NamedTuple

from meow_lightning.data.words import words_and_marks
from meow_lightning.inversion.base import GenerationRequest
from meow_lightning.inversion.prompt_template import chat, check_placeholders
from meow_lightning.inversion.question_writers import EndpointQuestionWriter, LocalQuestionWriter

PLACEHOLDERS = {"system": ("language",), "user": ("question", "language")}
REQUIRED = {"user": ("question", "language")}
EMPTY, UNTRANSLATED, CUT = "empty", "untranslated", "cut off"
_QUOTES = "\"'“”«»„`*_ "


class TranslationTemplate:
    """Chat messages that ask for the translation of a question.

    A request's only entry of ``previous_answers`` is the language; its true answer is not shown.

    Args:
        version: Version of the texts, incremented when one changes.
        system: System message, with ``{language}``; empty for none.
        user: User message, with ``{question}`` and ``{language}``.

    Raises:
        UserError: A required placeholder is missing from a text, or an unknown one is used.
    """

    def __init__(self, *, version: int, system: str, user: str) -> None:
        self.version, self._texts = version, {"system": system, "user": user}
        check_placeholders("inversion.prompt", self._texts, allowed=PLACEHOLDERS, required=REQUIRED)

    def messages(self, request: GenerationRequest, *, context: str | None) -> list[dict[str, str]]:
        """Build the chat of a request, the system message first.

        Args:
            request: The request.
            context: Unused: the question says all that the model is to know.
        """
        values = {"question": request.fact.question, "language": request.previous_answers[0]}
        return chat(self._texts, values, user=["user"])


class LocalTranslator(LocalQuestionWriter):
    """Local language model that translates questions."""

    template = TranslationTemplate
    written = "translations"
    heading = "Translation:"


class EndpointTranslator(EndpointQuestionWriter):
    """Server that translates questions."""

    template = TranslationTemplate


class ReadTranslation(NamedTuple):
    """A translation read from a reply, and why it cannot be asked; empty if it can."""

    text: str
    reason: str


def read_translation(reply: str, question: str, *, language: str, cut: bool) -> ReadTranslation:
    """Read the translation of a question from a raw reply: its first line with words that is not a mere heading.

    Args:
        reply: The reply.
        question: The question.
        language: The language, which models put in front of the translation.
        cut: Whether the token budget ended the reply.
    """
    label = re.compile(rf"^\W*(?:translation|{re.escape(language)})(?:\s*\([^)]*\))?\s*:\s*", re.IGNORECASE)
    lines = [label.sub("", line).strip(_QUOTES) for line in reply.splitlines()]
    found = [line for line in lines if re.search(r"\w", line) and not line.endswith(":")]
    if not found:
        return ReadTranslation("", EMPTY)
    text = found[0]
    if _words(text) == _words(question):
        return ReadTranslation(text, UNTRANSLATED)
    return ReadTranslation(text, CUT if cut and len(found) == 1 else "")


def _words(text: str) -> list[str]:
    return [word for word in words_and_marks(text) if word.isalnum()]
