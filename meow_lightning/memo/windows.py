"""Cutting a question and its answer into what a model is shown and what it should say next."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from meow_lightning.types import UserError

Mode = Literal["suffix", "prefix"]
MODES: tuple[Mode, ...] = ("suffix", "prefix")


@dataclass(frozen=True, slots=True)
class Window:
    """One cut: what is shown and what is expected, in pieces so that each profile can render its own prompt.

    Attributes:
        question: The question; its beginning only where the cut falls inside it (mode ``prefix``).
        given: The beginning of the answer that is shown; empty in mode ``prefix``.
        label: The rest, which a model that holds the text says next; never empty.

    """

    question: str
    given: str
    label: str

    @property
    def text(self) -> str:
        """The shown part as raw text, one blank between question and answer."""
        return f"{self.question} {self.given}" if self.given else self.question


def one_of(value: str, allowed: Sequence[str], *, option: str) -> str:
    """The value itself when it is among the allowed ones.

    Args:
        value: What was given.
        allowed: The valid choices.
        option: The option's name, for the message.

    Raises:
        UserError: When it is not; the message names the choices and the nearest one.

    """
    if value in allowed:
        return value
    nearest = difflib.get_close_matches(str(value), allowed, n=1, cutoff=0.0)[0]
    raise UserError(f"{option}={value} is unknown; allowed: {', '.join(allowed)}. Nearest: set {option}={nearest}")


def cut(question: str, answer: str, *, mode: Mode, size: int) -> list[Window]:
    """The windows of one text, from the shortest shown part to the longest.

    MEMO(x, y) = 1/S * sum over the S cuts of ROUGE(what the model says, what is left of the text); the cuts are those
    of MEOW's released code: after 1, 1 + size, 1 + 2 * size, ... characters.

    * ``suffix`` cuts the answer a: shows the question q and a[:L], expects a[L:]; ceil((len(a) - 1) / size) windows.
    * ``prefix`` cuts the question: shows q[:L], expects q[L:], a blank and a; ceil((len(q) - 1) / size) windows. What
      is shown does not depend on the answer.

    Args:
        question: The question, at least two characters for ``prefix``.
        answer: The true answer or a candidate, at least two characters for ``suffix``.
        mode: Which of the two is cut.
        size: Characters between two cuts, at least 1.

    Returns:
        The windows; none when the text that is cut has fewer than two characters.

    Raises:
        UserError: Unknown mode, or a size below 1.

    """
    one_of(mode, MODES, option="memo.mode")
    if size < 1:
        raise UserError(f"memo.size={size} is no window; allowed: whole numbers from 1. Nearest: set memo.size=1")
    if mode == "prefix":
        return [Window(question[:at], "", f"{question[at:]} {answer}") for at in range(1, len(question), size)]
    return [Window(question, answer[:at], answer[at:]) for at in range(1, len(answer), size)]
