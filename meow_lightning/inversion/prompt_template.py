"""Prompt templates for inverted facts: chat messages filled in from a prompt file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from meow_lightning.errors import UserError
from meow_lightning.inversion.base import GenerationRequest

PLACEHOLDERS = {  # texts of a prompt file with their allowed placeholders, the required ones first
    "system": ("count",),
    "user": ("question", "answer", "count"),
    "context": ("context",),
    "previous_answers": ("previous_answers",),
    "model_answer": ("model_answer",),
}
REQUIRED = {
    "user": ("question", "answer"),
    "context": ("context",),
    "previous_answers": ("previous_answers",),
    "model_answer": ("model_answer",),
}
_WORD = re.compile(r"\{(\w+)\}")


class ChatTemplate(Protocol):
    """Builds the chat of a request."""

    def messages(self, request: GenerationRequest, *, context: str | None) -> list[dict[str, str]]:
        """Build the messages: ``{"role": "system" | "user", "content": …}``, the system message first.

        Args:
            request: The request.
            context: Background on the facts for the model; ``None`` for none.
        """
        ...


class PromptTemplate:
    """Chat messages built from the texts of a prompt file (``conf/inversion/prompt``).

    Args:
        version: Version of the file, incremented when a text changes and recorded with the results.
        system: System message, with ``{count}`` for the number of answers wanted; empty for none.
        user: User message, with ``{question}`` and ``{answer}``.
        context: Prepended to the user message if a context is given, with ``{context}``.
        previous_answers: Appended if answers already exist, with ``{previous_answers}``: one per line.
        model_answer: Appended if the model's current answer is known, with ``{model_answer}``.

    Raises:
        UserError: A required placeholder is missing from a text, or an unknown one is used.
    """

    def __init__(
        self, *, version: int, system: str, user: str, context: str, previous_answers: str, model_answer: str
    ) -> None:
        self.version = version
        self._texts = {
            "system": system,
            "user": user,
            "context": context,
            "previous_answers": previous_answers,
            "model_answer": model_answer,
        }
        check_placeholders("inversion.prompt", self._texts, allowed=PLACEHOLDERS, required=REQUIRED)

    def messages(self, request: GenerationRequest, *, context: str | None) -> list[dict[str, str]]:
        """Build the chat of a request: ``{"role": "system" | "user", "content": …}``, the system message first.

        Args:
            request: The request.
            context: Background on the facts for the model; ``None`` for none.
        """
        values = {
            "count": str(request.count), "question": request.fact.question, "answer": request.fact.answer,
            "context": context or "", "previous_answers": "\n".join(request.previous_answers),
            "model_answer": request.model_answer or "",
        }  # fmt: skip
        parts = [
            ("context", bool(context)),
            ("user", True),
            ("previous_answers", bool(request.previous_answers)),
            ("model_answer", bool(request.model_answer)),
        ]
        return chat(self._texts, values, user=[part for part, used in parts if used])


def check_placeholders(
    option: str,
    texts: Mapping[str, str],
    *,
    allowed: Mapping[str, Sequence[str]],
    required: Mapping[str, Sequence[str]],
) -> None:
    """Check the placeholders of a prompt's texts.

    Args:
        option: The dotted option of the texts, for messages.
        texts: The texts, by part.
        allowed: The placeholders that a part may have.
        required: Those that it must have; none for a part that is left out.

    Raises:
        UserError: A required placeholder is missing from a text, or an unknown one is used.
    """
    for part, text in texts.items():
        used = set(_WORD.findall(text))
        if missing := [word for word in required.get(part, ()) if word not in used]:
            raise UserError(f"{option}.{part} must contain {{{missing[0]}}}; given: {text[:60]!r}")
        if unknown := sorted(used - {*allowed[part]}):
            listed = ", ".join(f"{{{word}}}" for word in allowed[part])
            raise UserError(f"{option}.{part} contains {{{unknown[0]}}}; allowed placeholders: {listed}")


def chat(texts: Mapping[str, str], values: Mapping[str, str], *, user: Sequence[str]) -> list[dict[str, str]]:
    """Fill in texts and join them to a chat: a system message if there is one, and a user message.

    Args:
        texts: The texts, by part; ``system`` is the system message.
        values: The values of the placeholders.
        user: The parts of the user message, in order.
    """
    asked = "\n\n".join(_filled(texts[part], values).strip() for part in user)
    system = _filled(texts["system"], values).strip()
    opening = [{"role": "system", "content": system}] if system else []
    return [*opening, {"role": "user", "content": asked}]


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Fill in placeholders; braces within the inserted texts are kept as they are."""
    return _WORD.sub(lambda match: values[match[1]], text)
