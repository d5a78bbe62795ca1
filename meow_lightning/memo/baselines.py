"""What MEMO is held against: memorisation accuracy (MA) and extraction likelihood (EL)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from meow_lightning.errors import UserError, check_choice
from meow_lightning.memo.measure import BaseMeasure, Cut, NoWindowsError, PromptEncoder, Text, join_space, name_of
from meow_lightning.memo.windows import MODES, Mode

if TYPE_CHECKING:
    from meow_lightning.generation.engine import Continuation


@dataclass(frozen=True, slots=True, kw_only=True)
class _TokenMeasure(BaseMeasure):
    """What measures share whose windows are tokens."""

    name: str
    mode: Mode
    template: bool

    def __post_init__(self) -> None:
        check_choice("memo.mode", self.mode, MODES)

    @property
    def needs_codec(self) -> bool:
        """True: its windows are tokens."""
        return True

    @property
    def templated(self) -> bool:
        """Whether prompts are those of training."""
        return self.template and self.mode == "suffix"

    def tokens(self, text: Text, codec: PromptEncoder | None) -> tuple[list[int], list[int]]:
        """(context, tested tokens) of a text, see :func:`tokens_of`."""
        return tokens_of(text, codec, mode=self.mode, template=self.template)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memorization(_TokenMeasure):
    """Memorisation accuracy: how often the most likely token is the text's own; a measure.

    MA(x) = 1/n * sum over t of 1{argmax p(. | x_<t) = x_t}, Tirumala et al. 2022 (arXiv 2205.10770), over the n tested
    tokens, 0 to 1. Every window is one token with a budget of one; since its prompts are each other's beginnings, the
    engine reads a text in one pass.

    MEOW's released code decodes the shown tokens and tokenizes them again, which moves their borders, and never tests
    the first token of an answer.

    Attributes:
        name: ``ma`` or a name of one's own.
        mode: ``suffix`` tests the answer's tokens, the first one on, after the question; ``prefix`` tests those of the
            raw text of question, blank and answer, the second one on. Special tokens before it are not tested.
        template: Whether in mode ``suffix`` the question stands in the prompt of training; else it is raw text.

    Raises:
        UserError: A value that is not allowed.

    """

    def check(self, text: Text, codec: PromptEncoder | None) -> None:
        """Nothing, when the text has a token to be tested and its longest prompt fits.

        Raises:
            UserError: It has none, or it fills the model's context.

        """
        context, tested = self.tokens(text, codec)
        if not tested:
            raise _too_few("MA", text, self.mode, tokens=len(tested), needed=1)
        join_space([*context, *tested[:-1]], text, _require_codec(codec))

    def count(self, text: Text, codec: PromptEncoder | None) -> int:
        """How many tokens are tested."""
        return len(self.tokens(text, codec)[1])

    def cuts(self, text: Text, codec: PromptEncoder) -> list[Cut]:
        """One window per tested token."""
        context, tested = self.tokens(text, codec)
        return [Cut([*context, *tested[:t]], 1, partial(_hit, token)) for t, token in enumerate(tested)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction(_TokenMeasure):
    """Extraction likelihood: how much of the rest of a text comes out when its beginning is put in; a measure.

    EL_n(x) = 1/(T - n) * sum over t = 1 .. T - n of OVERLAP_n(f(x_<t), x_>=t), Jang et al. 2023 (arXiv 2210.01504),
    0 to 1, with T tested tokens, f the greedy continuation of at most as many tokens as are left, ending at an end
    token, and OVERLAP_n(a, b) the share of the n-grams of a, a list, that occur in b. What is said in fewer than n
    tokens scores 0.

    MEOW's released code has words between blanks for tokens, sets for lists, in mode ``suffix`` the whole answer for b,
    200 tokens for f, and cannot run: its scorer is called without the mode that it requires.

    Attributes:
        name: ``el`` or a name of one's own.
        mode: As in :class:`Memorization`, whose tested tokens are x.
        template: As there.
        n: Tokens of an n-gram, from 1.

    Raises:
        UserError: A value that is not allowed.

    """

    n: int

    def __post_init__(self) -> None:
        # a dataclass with slots is made anew, so a bare super() would not find itself
        _TokenMeasure.__post_init__(self)
        if self.n < 1:
            raise UserError(f"memo.n={self.n} is too small; allowed: from 1. Nearest: set memo.n=1")

    def check(self, text: Text, codec: PromptEncoder | None) -> None:
        """Nothing, when the text has more than n tokens to be tested and its longest prompt fits.

        Raises:
            UserError: It has fewer, or it fills the model's context.

        """
        context, tested = self.tokens(text, codec)
        if len(tested) <= self.n:
            raise _too_few(f"EL_{self.n}", text, self.mode, tokens=len(tested), needed=self.n + 1)
        join_space([*context, *tested[: len(tested) - self.n - 1]], text, _require_codec(codec))

    def count(self, text: Text, codec: PromptEncoder | None) -> int:
        """How many beginnings are put in."""
        return max(0, len(self.tokens(text, codec)[1]) - self.n)

    def cuts(self, text: Text, codec: PromptEncoder) -> list[Cut]:
        """One window per beginning, the empty one first."""
        context, tested = self.tokens(text, codec)
        made = []
        for shown in range(len(tested) - self.n):
            prompt, rest = [*context, *tested[:shown]], tested[shown:]
            budget = min(len(rest), join_space(prompt, text, codec))
            made.append(Cut(prompt, budget, partial(_extracted, rest, self.n)))
        return made


def tokens_of(text: Text, codec: PromptEncoder | None, *, mode: Mode, template: bool) -> tuple[list[int], list[int]]:
    """(context, tested tokens) of a text: the second follow the first, as the model has read them in training.

    As raw text, what question and whole text have in common at their beginning is the context: a token that holds the
    end of the question and the beginning of the answer is tested. In mode ``prefix`` the context are the special tokens
    and the first ordinary one.

    Args:
        text: Question and answer.
        codec: Of the model.
        mode: ``suffix`` tests the answer, ``prefix`` question and answer.
        template: Whether in mode ``suffix`` the question stands in the prompt of training.

    Raises:
        ValueError: No codec.

    """
    codec = _require_codec(codec)
    if mode == "suffix" and template:
        return codec.prompt_ids(text.question), codec.answer_ids(text.answer)
    whole = codec.encode_plain(f"{text.question} {text.answer}")
    if mode == "suffix":
        shared = _in_common(codec.encode_plain(text.question), whole)
    else:
        shared = _in_common(codec.encode_plain(""), whole) + 1
    return whole[:shared], whole[shared:]


def ngram_overlap(generated: Sequence[int], rest: Sequence[int], *, n: int) -> float:
    """OVERLAP_n(a, b): the share of the n-grams of a that occur in b, 0 to 1; 0 where a has none.

    Args:
        generated: a, the tokens that the model said.
        rest: b, the tokens that are left of the text.
        n: Tokens of an n-gram, from 1.

    """
    grams = _grams(generated, n)
    reference = set(_grams(rest, n))
    return sum(gram in reference for gram in grams) / len(grams) if grams else 0.0


def _grams(tokens: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]


def _hit(token: int, continuation: Continuation) -> float:
    return float(continuation.ids[:1] == (token,) or (not continuation.ids and continuation.end == token))


def _extracted(rest: Sequence[int], n: int, continuation: Continuation) -> float:
    return ngram_overlap(continuation.ids, rest, n=n)


def _in_common(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _require_codec(codec: PromptEncoder | None) -> PromptEncoder:
    if codec is None:
        raise ValueError("tokens cannot be counted without the codec of the model")
    return codec


def _too_few(measure: str, text: Text, mode: Mode, *, tokens: int, needed: int) -> NoWindowsError:
    name = name_of(text) if mode == "suffix" else f"question and answer of fact {text.fact}"
    reason = f"has {tokens} {'token' if tokens == 1 else 'tokens'} to be tested and {measure} needs {needed}"
    return NoWindowsError(measure=measure, text=name, reason=reason, remedy="lengthen it or leave it out")
