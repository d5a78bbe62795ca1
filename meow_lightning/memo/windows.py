"""Windows of a question and its answer: the part shown to a model and the part it should generate next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from meow_lightning.data.words import Words, chunk_ends, has_words
from meow_lightning.errors import check_choice, invalid_option

Mode = Literal["suffix", "prefix"]
CutUnit = Literal["characters", "words", "tokens"]
MODES: tuple[Mode, ...] = ("suffix", "prefix")
CUT_UNITS: tuple[CutUnit, ...] = ("characters", "words", "tokens")


@dataclass(frozen=True, slots=True)
class Window:
    """One cut: the shown and the expected text, kept separate so that each profile can render its own prompt.

    Attributes:
        question: The question; only a prefix of it if the cut falls inside it (mode ``prefix``).
        given: Shown prefix of the answer; empty in mode ``prefix``.
        label: The rest, which a model that memorised the text generates next; never empty.
        raw: Whether the answer continues the question as it stands, as in a document.

    """

    question: str
    given: str
    label: str
    raw: bool = False

    @property
    def text(self) -> str:
        """The shown part as raw text, with one blank between question and answer."""
        return self.question + joined_by(self.raw) + self.given if self.given else self.question


def joined_by(raw: bool) -> str:
    """Return what stands between question and answer in raw text: a blank, or nothing in a document."""
    return "" if raw else " "


def is_empty_window(label: str, *, least: int, kind: Words) -> bool:
    """Whether a text has fewer than ``least`` words for ROUGE, see :func:`meow_lightning.data.words.words`."""
    return not has_words(label, least=least, kind=kind)


def word_ends(text: str) -> list[int]:
    """Find where a text's words end, in characters; in scripts without blanks, every character is a word.

    A cut at an end offset leaves the blank to the following part. Trailing blanks belong to the last word, so that
    nothing remains after it.
    """
    ends = chunk_ends(text)
    return [*ends[:-1], len(text)] if ends else []


def cut_windows(
    question: str, answer: str, *, mode: Mode, stride: int, ends: Sequence[int] | None = None, raw: bool = False
) -> list[Window]:
    """Cut one text into windows, from the shortest shown part to the longest.

    MEMO(x, y) = 1/S * sum over the S cuts of ROUGE(continuation, rest of the text); the cuts are those of MEOW's
    released code, after 1, 1 + stride, 1 + 2 * stride, ... units, as long as any text is left. Its units are
    characters.

    * ``suffix`` cuts the answer a: shows the question q and a[:L], expects a[L:]; ceil((n - 1) / stride) windows for n
      units.
    * ``prefix`` cuts the question: shows q[:L], expects q[L:], a blank and a; the same count for the question's units.
      The shown part does not depend on the answer.

    Args:
        question: The question, at least two units for ``prefix``.
        answer: The true answer or a candidate, at least two units for ``suffix``.
        mode: Whether the answer (``suffix``) or the question (``prefix``) is cut.
        stride: Units between two cuts, at least 1.
        ends: Increasing end offsets of the units of the cut text, in characters; ``None``: each character is a unit.
        raw: Whether the answer continues the question as it stands.

    Returns:
        The windows; empty if the cut text has fewer than two units.

    Raises:
        UserError: Unknown mode, or ``stride`` below 1.

    """
    check_choice("memo.mode", mode, MODES)
    if stride < 1:
        raise invalid_option("memo.stride", stride, "an integer of at least 1", did_you_mean=1)
    text = question if mode == "prefix" else answer
    places = range(1, len(text), stride) if ends is None else [at for at in ends[::stride] if at < len(text)]
    if mode == "prefix":
        rest = joined_by(raw) + answer
        return [Window(question[:at], "", question[at:] + rest, raw) for at in places]
    return [Window(question, answer[:at], answer[at:], raw) for at in places]
