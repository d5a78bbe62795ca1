"""How a language model is asked for inverted facts: the messages of a chat, filled from a prompt file."""

from __future__ import annotations

import re
from collections.abc import Mapping

from meow_lightning.errors import UserError
from meow_lightning.inversion.base import GenerationRequest

PLACEHOLDERS = {  # of a prompt file, with the words that each may hold in braces; the first ones it must hold
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
    """Messages from the texts of a prompt file (``conf/inversion/prompt``).

    Args:
        version: The file's own number; it moves when a text changes, so that results tell which one made them.
        system: First message, with ``{count}`` where it says how many answers are wanted; empty for none.
        user: The question, with ``{question}`` and ``{answer}``.
        context: Put before it where there is a context, with ``{context}``.
        previous_answers: Put after it where answers are there already, with ``{previous_answers}``: one per line.
        model_answer: Put after it where it is known what the model says now, with ``{model_answer}``.

    Raises:
        UserError: A text lacks one of its words, or holds another.
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
            found = set(_WORD.findall(text))
            if missing := [word for word in REQUIRED.get(part, ()) if word not in found]:
                raise UserError(f"inversion.prompt.{part} must hold {{{missing[0]}}}; given: {text[:60]!r}")
            if unknown := sorted(found - {*PLACEHOLDERS[part]}):
                allowed = ", ".join(f"{{{word}}}" for word in PLACEHOLDERS[part])
                raise UserError(f"inversion.prompt.{part} holds {{{unknown[0]}}}; allowed there: {allowed}")

    def messages(self, ask: GenerationRequest, *, context: str | None) -> list[dict[str, str]]:
        """The chat that asks for answers: ``{"role": "system" | "user", "content": …}``, the system first.

        Args:
            ask: What is wanted.
            context: What the teacher shall know of the facts; ``None`` for nothing.
        """
        words = {
            "count": str(ask.count), "question": ask.fact.question, "answer": ask.fact.answer,
            "context": context or "", "previous_answers": "\n".join(ask.previous_answers),
            "model_answer": ask.model_answer or "",
        }  # fmt: skip
        parts = [
            ("context", bool(context)),
            ("user", True),
            ("previous_answers", bool(ask.previous_answers)),
            ("model_answer", bool(ask.model_answer)),
        ]
        user = "\n\n".join(_filled(self._texts[part], words).strip() for part, there in parts if there)
        system = _filled(self._texts["system"], words).strip()
        first = [{"role": "system", "content": system}] if system else []
        return [*first, {"role": "user", "content": user}]


def _filled(text: str, words: Mapping[str, str]) -> str:
    """A text with its words in the place of their names; braces within the words stay as they are."""
    return _WORD.sub(lambda found: words[found[1]], text)
