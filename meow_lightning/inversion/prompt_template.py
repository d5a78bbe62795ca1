"""Prompt templates for inverted facts: chat messages filled in from a prompt file."""

from __future__ import annotations

import re
from collections.abc import Mapping

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
        for part, text in self._texts.items():
            used = set(_WORD.findall(text))
            if missing := [word for word in REQUIRED.get(part, ()) if word not in used]:
                raise UserError(f"inversion.prompt.{part} must contain {{{missing[0]}}}; given: {text[:60]!r}")
            if unknown := sorted(used - {*PLACEHOLDERS[part]}):
                allowed = ", ".join(f"{{{word}}}" for word in PLACEHOLDERS[part])
                raise UserError(f"inversion.prompt.{part} contains {{{unknown[0]}}}; allowed placeholders: {allowed}")

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
        user = "\n\n".join(_filled(self._texts[part], values).strip() for part, used in parts if used)
        system = _filled(self._texts["system"], values).strip()
        opening = [{"role": "system", "content": system}] if system else []
        return [*opening, {"role": "user", "content": user}]


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Fill in placeholders; braces within the inserted texts are kept as they are."""
    return _WORD.sub(lambda match: values[match[1]], text)
