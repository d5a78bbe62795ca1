"""Cutting a question and its answer into what a model is shown and what it should say next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from meow_lightning.data.words import Words, chunk_ends, has_words
from meow_lightning.errors import UserError, check_choice

Mode = Literal["suffix", "prefix"]
CutUnit = Literal["characters", "words", "tokens"]
MODES: tuple[Mode, ...] = ("suffix", "prefix")
CUT_UNITS: tuple[CutUnit, ...] = ("characters", "words", "tokens")


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


def is_empty_window(label: str, *, least: int, kind: Words) -> bool:
    """Whether ROUGE finds fewer than ``least`` words in a text, see :func:`meow_lightning.data.words.words`."""
    return not has_words(label, least=least, kind=kind)


def word_ends(text: str) -> list[int]:
    """Where the words of a text end, in characters: what stands between blanks, or a character where a script has none.

    A cut there gives the blank to what follows. Blanks after the last word belong to it, so that after it nothing is
    left.
    """
    ends = chunk_ends(text)
    return [*ends[:-1], len(text)] if ends else []


def cut_windows(
    question: str, answer: str, *, mode: Mode, stride: int, ends: Sequence[int] | None = None
) -> list[Window]:
    """The windows of one text, from the shortest shown part to the longest.

    MEMO(x, y) = 1/S * sum over the S cuts of ROUGE(what the model says, what is left of the text); the cuts are those
    of MEOW's released code, after 1, 1 + stride, 1 + 2 * stride, ... units, as long as something is left. Its units are
    characters.

    * ``suffix`` cuts the answer a: shows the question q and a[:L], expects a[L:]; ceil((n - 1) / stride) windows of n
      units.
    * ``prefix`` cuts the question: shows q[:L], expects q[L:], a blank and a; as many of the question's units. What is
      shown does not depend on the answer.

    Args:
        question: The question, at least two units for ``prefix``.
        answer: The true answer or a candidate, at least two units for ``suffix``.
        mode: Which of the two is cut.
        stride: Units between two cuts, at least 1.
        ends: Where each unit of the text that is cut ends, in characters, rising; ``None``: each character is a unit.

    Returns:
        The windows; none when the text that is cut has fewer than two units.

    Raises:
        UserError: Unknown mode, or a stride below 1.

    """
    check_choice("memo.mode", mode, MODES)
    if stride < 1:
        raise UserError(f"memo.stride={stride} is invalid: expected a whole number, at least 1")
    text = question if mode == "prefix" else answer
    places = range(1, len(text), stride) if ends is None else [at for at in ends[::stride] if at < len(text)]
    if mode == "prefix":
        return [Window(question[:at], "", f"{question[at:]} {answer}") for at in places]
    return [Window(question, answer[:at], answer[at:]) for at in places]
