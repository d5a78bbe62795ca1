"""Baselines for MEMO: memorisation accuracy (MA) and extraction likelihood (EL)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from meow_lightning.config.ranges import Count
from meow_lightning.config.signature import checked_ranges
from meow_lightning.errors import check_choice
from meow_lightning.memo.measure import BaseMeasure, Cut, NoWindowsError, PromptEncoder, Text, join_space, name_of
from meow_lightning.memo.windows import MODES, Mode, joined_by

if TYPE_CHECKING:
    from meow_lightning.generation.engine import Continuation


@dataclass(frozen=True, slots=True, kw_only=True)
class _TokenMeasure(BaseMeasure):
    """Base class of measures with token windows."""

    name: str
    mode: Mode
    template: bool

    def __post_init__(self) -> None:
        check_choice("memo.mode", self.mode, MODES)

    @property
    def needs_codec(self) -> bool:
        """Always true: windows are tokens."""
        return True

    @property
    def templated(self) -> bool:
        """Whether prompts use the training template."""
        return self.template and self.mode == "suffix"

    def tokens(self, text: Text, codec: PromptEncoder | None) -> tuple[list[int], list[int]]:
        """Split a text into context and tested tokens, see :func:`tokens_of`."""
        return tokens_of(text, codec, mode=self.mode, template=self.template)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memorization(_TokenMeasure):
    """Memorisation accuracy: how often the argmax token is the text's own.

    MA(x) = 1/n * sum over t of 1{argmax p(. | x_<t) = x_t}, Tirumala et al. 2022 (arXiv 2205.10770), over the n tested
    tokens, 0 to 1. Every window is one token with a budget of one; since the prompts are prefixes of each other, the
    engine reads a text in one pass.

    MEOW's released code decodes the shown tokens and tokenizes them again, which moves token boundaries, and never
    tests the first token of an answer.

    Attributes:
        name: ``ma`` or a custom name.
        mode: ``suffix`` tests all tokens of the answer, given the question; ``prefix`` tests the raw text of question,
            blank and answer from its second token on. Leading special tokens are not tested.
        template: Whether mode ``suffix`` puts the question into the training prompt; else it is raw text.

    Raises:
        UserError: Invalid value.

    """

    def check(self, text: Text, codec: PromptEncoder | None) -> None:
        """Check that the text has a token to test and that its longest prompt fits.

        Raises:
            UserError: It has no such token, or fills the model's context.

        """
        context, tested = self.tokens(text, codec)
        if not tested:
            raise _too_few("MA", text, self.mode, tokens=len(tested), needed=1)
        join_space([*context, *tested[:-1]], text, _require_codec(codec))

    def count(self, text: Text, codec: PromptEncoder | None) -> int:
        """Count the tested tokens."""
        return len(self.tokens(text, codec)[1])

    def cuts(self, text: Text, codec: PromptEncoder) -> list[Cut]:
        """Build one window per tested token."""
        context, tested = self.tokens(text, codec)
        return [Cut([*context, *tested[:t]], 1, partial(_hit, token)) for t, token in enumerate(tested)]


@checked_ranges("memo")
@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction(_TokenMeasure):
    """Extraction likelihood: n-gram overlap of the rest of a text with its greedy continuation.

    EL_n(x) = 1/(T - n) * sum over t = 1 .. T - n of OVERLAP_n(f(x_<t), x_>=t), Jang et al. 2023 (arXiv 2210.01504),
    0 to 1, with T tested tokens, f the greedy continuation of at most as many tokens as are left, ending at an end
    token, and OVERLAP_n(a, b) the share of the n-grams of a, counted with repetition, that occur in b. Continuations
    of fewer than n tokens score 0.

    MEOW's released code uses blank-separated words instead of tokens, sets instead of lists, the whole answer as b in
    mode ``suffix``, and 200 tokens for f; it does not run, because its scorer is called without a required argument,
    the mode.

    Attributes:
        name: ``el`` or a custom name.
        mode: As in :class:`Memorization`; x are its tested tokens.
        template: As in :class:`Memorization`.
        n: Tokens per n-gram, from 1.

    Raises:
        UserError: Invalid value.

    """

    n: Count

    def check(self, text: Text, codec: PromptEncoder | None) -> None:
        """Check that the text has more than n tokens to test and that its longest prompt fits.

        Raises:
            UserError: It has fewer, or fills the model's context.

        """
        context, tested = self.tokens(text, codec)
        if len(tested) <= self.n:
            raise _too_few(f"EL_{self.n}", text, self.mode, tokens=len(tested), needed=self.n + 1)
        join_space([*context, *tested[: len(tested) - self.n - 1]], text, _require_codec(codec))

    def count(self, text: Text, codec: PromptEncoder | None) -> int:
        """Count the prefixes."""
        return max(0, len(self.tokens(text, codec)[1]) - self.n)

    def cuts(self, text: Text, codec: PromptEncoder) -> list[Cut]:
        """Build one window per prefix, the empty one first."""
        context, tested = self.tokens(text, codec)
        cuts = []
        for shown in range(len(tested) - self.n):
            prompt, rest = [*context, *tested[:shown]], tested[shown:]
            budget = min(len(rest), join_space(prompt, text, codec))
            cuts.append(Cut(prompt, budget, partial(_extracted, rest, self.n)))
        return cuts


def tokens_of(text: Text, codec: PromptEncoder | None, *, mode: Mode, template: bool) -> tuple[list[int], list[int]]:
    """Split a text into context and tested tokens, tokenized as in training.

    For raw text, the context is the common token prefix of the question and the whole text, so a token that spans the
    end of the question and the beginning of the answer is tested. In mode ``prefix`` the context is the special tokens
    and the first ordinary one.

    Args:
        text: Question and answer.
        codec: Codec of the model.
        mode: ``suffix`` tests the answer, ``prefix`` question and answer.
        template: Whether mode ``suffix`` puts the question into the training prompt.

    Returns:
        The context and the tested tokens that follow it.

    Raises:
        ValueError: ``codec`` is ``None``.

    """
    codec = _require_codec(codec)
    if mode == "suffix" and template and not text.raw:
        return codec.prompt_ids(text.question), codec.answer_ids(text.answer)
    tokens = codec.encode_plain(text.question + joined_by(text.raw) + text.answer)
    if mode == "suffix":
        shared = _common_prefix_length(codec.encode_plain(text.question), tokens)
    else:
        shared = _common_prefix_length(codec.encode_plain(""), tokens) + 1
    return tokens[:shared], tokens[shared:]


def ngram_overlap(generated: Sequence[int], rest: Sequence[int], *, n: int) -> float:
    """Compute OVERLAP_n(a, b): the share of the n-grams of a that occur in b, 0 to 1; 0 if a has none.

    Args:
        generated: a, the generated tokens.
        rest: b, the remaining tokens of the text.
        n: Tokens per n-gram, from 1.

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


def _common_prefix_length(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _require_codec(codec: PromptEncoder | None) -> PromptEncoder:
    if codec is None:
        raise ValueError("tokens cannot be counted without the codec of the model")
    return codec


def _too_few(measure: str, text: Text, mode: Mode, *, tokens: int, needed: int) -> NoWindowsError:
    name = name_of(text) if mode == "suffix" else f"question and answer of fact {text.fact}"
    reason = f"has {tokens} {'token' if tokens == 1 else 'tokens'} to test, but {measure} needs {needed}"
    return NoWindowsError(measure=measure, text=name, reason=reason, remedy="lengthen it or leave it out")
