"""MEMO: ROUGE of a model's continuations against the rest of a text, over all cuts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from meow_lightning.config.ranges import Count
from meow_lightning.config.signature import checked_ranges
from meow_lightning.data.words import PUBLISHED_ALONE, WORDS, Words, unreadable, without_cut_word
from meow_lightning.errors import check_choice
from meow_lightning.memo.measure import BaseMeasure, Cut, NoWindowsError, PromptEncoder, Text, join_space, name_of
from meow_lightning.memo.rouge import ROUGE_STATS, ROUGES, Rouge, RougeStat, window_score
from meow_lightning.memo.windows import (
    CUT_UNITS,
    MODES,
    CutUnit,
    Mode,
    Window,
    cut_windows,
    is_empty_window,
    word_ends,
)

if TYPE_CHECKING:
    from meow_lightning.generation.engine import Continuation

EmptyWindows = Literal["skip", "zero"]
EMPTY_WINDOWS: tuple[EmptyWindows, ...] = ("skip", "zero")


@checked_ranges("memo")
@dataclass(frozen=True, slots=True, kw_only=True)
class Profile(BaseMeasure):
    """Settings of MEMO; a :class:`meow_lightning.memo.measure.Measure`.

    MEMO(x, y) = 1/S * sum over the S windows of ROUGE(continuation, rest of the text), MEOW (arXiv 2409.11844).

    * Prompt: with ``template``, the training prompt and the given prefix of the answer; otherwise, and always in mode
      ``prefix`` and for passages of documents, the raw text.
    * Prediction: without ``keep_special``, the continuation without special tokens. With it and raw prompts, as in
      MEOW's released code, prompt, continuation and end token are decoded together with special tokens, and every
      occurrence of the prompt's text is removed: the words of ``<s>`` and ``</s>`` count, and a prompt that decoding
      alters counts in full. With it and a template, the continuation and its end token, with special tokens.

    Attributes:
        name: ``clean``, ``official`` or a custom name.
        mode: Part of the text that is cut, see :func:`meow_lightning.memo.windows.cut_windows`.
        cut_unit: Cuts are counted in ``characters``, ``words`` (a cut comes before the blank) or ``tokens`` of the part
            that is cut, tokenized by itself.
        stride: Units between two cuts, from 1.
        template: Whether to use the training prompt; else raw text. In mode ``prefix`` the prompt is always raw text,
            since a partial question fits no template.
        keep_special: Whether special tokens stay in the prediction and therefore count as words.
        rouge: ``rouge1``, ``rouge2`` or ``rougeL``.
        rouge_stat: ``precision``, ``recall`` or ``fmeasure``.
        max_new_tokens: Token budget per window, from 1.
        empty_windows: Treatment of windows whose rest has no word, such as a final full stop (for ``rouge2``, fewer
            than two words): ``skip`` leaves them out; ``zero`` scores them 0, as MEOW's released code does.
        words: Word splitting for ROUGE: ``unicode`` for every script, ``published`` as in MEOW's released code (only
            a-z and 0-9). With ``unicode`` the last word of a truncated prediction is dropped unless it is ASCII, since
            it may be incomplete.

    Raises:
        UserError: Invalid value.

    """

    name: str
    mode: Mode
    cut_unit: CutUnit
    stride: Count
    template: bool
    keep_special: bool
    rouge: Rouge
    rouge_stat: RougeStat
    max_new_tokens: Count
    empty_windows: EmptyWindows
    words: Words

    def __post_init__(self) -> None:
        for option, allowed in (
            ("mode", MODES), ("cut_unit", CUT_UNITS), ("rouge", ROUGES), ("rouge_stat", ROUGE_STATS),
            ("empty_windows", EMPTY_WINDOWS), ("words", WORDS),
        ):  # fmt: skip
            check_choice(f"memo.{option}", getattr(self, option), allowed)

    @property
    def needs_codec(self) -> bool:
        """Whether counting windows requires the model's tokenizer."""
        return self.cut_unit == "tokens"

    @property
    def templated(self) -> bool:
        """Whether prompts use the training template."""
        return self.template and self.mode == "suffix"

    def check(self, text: Text, codec: PromptEncoder | None) -> None:
        """Check that the text has a window and, if a codec is given, that its longest prompt fits.

        Raises:
            UserError: The text cannot be measured.

        """
        windows = self.windows(text, codec)
        if not windows:
            raise self._no_windows(text, codec)
        if codec is not None:
            join_space(self._encode(windows[-1], codec), text, codec)

    def count(self, text: Text, codec: PromptEncoder | None) -> int:
        """Count the windows of the text."""
        return len(self.windows(text, codec))

    def cuts(self, text: Text, codec: PromptEncoder) -> list[Cut]:
        """Build the windows of the text with prompts, budgets and scores, from the shortest prompt to the longest."""
        cuts = []
        for window in self.windows(text, codec):
            prompt = self._encode(window, codec)
            budget = min(self.max_new_tokens, join_space(prompt, text, codec))
            cuts.append(Cut(prompt, budget, partial(self._score, window, prompt, codec)))
        return cuts

    def windows(self, text: Text, codec: PromptEncoder | None) -> list[Window]:
        """Return the windows of the text that are generated and scored.

        Raises:
            ValueError: ``codec`` is ``None`` although cuts are counted in tokens.

        """
        windows = self._all(text, codec)
        if windows and unreadable(windows[0].label, kind=self.words):  # such a text must not look forgotten
            return []
        least = 2 if self.rouge == "rouge2" else 1
        if self.empty_windows == "zero":
            return windows
        return [each for each in windows if not is_empty_window(each.label, least=least, kind=self.words)]

    def _all(self, text: Text, codec: PromptEncoder | None) -> list[Window]:
        cut_text = text.question if self.mode == "prefix" else text.answer
        ends = None
        if self.cut_unit == "words":
            ends = word_ends(cut_text)
        elif self.cut_unit == "tokens":
            if codec is None:
                raise ValueError("windows of tokens cannot be counted without the codec of the model")
            ends = codec.token_ends(cut_text)
        return cut_windows(text.question, text.answer, mode=self.mode, stride=self.stride, ends=ends, raw=text.raw)

    def _no_windows(self, text: Text, codec: PromptEncoder | None) -> NoWindowsError:
        name = f"the question of fact {text.fact}" if self.mode == "prefix" else name_of(text)
        reason, remedy = f"has fewer than 2 {self.cut_unit}", "lengthen it or leave it out"
        if windows := self._all(text, codec):
            least = "no pair of words" if self.rouge == "rouge2" else "no word"
            name, reason = name_of(text), f"has {least} after its first cut"
            remedy = "leave it out, or set memo.empty_windows=zero to score it 0"
            if unreadable(windows[0].label, kind=self.words):
                reason, remedy = f"cannot be read ({PUBLISHED_ALONE})", "leave it out, or set memo.words=unicode"
        return NoWindowsError(measure="MEMO", text=name, reason=reason, remedy=remedy)

    def _encode(self, window: Window, codec: PromptEncoder) -> list[int]:
        if self.templated and not window.raw:
            return codec.partial_ids(window.question, window.given)
        return codec.encode_plain(window.text)

    def _score(self, window: Window, prompt: list[int], codec: PromptEncoder, continuation: Continuation) -> float:
        prediction = self._prediction(window, prompt, codec, continuation)
        return window_score(prediction, window.label, rouge=self.rouge, rouge_stat=self.rouge_stat, kind=self.words)

    def _prediction(self, window: Window, prompt: list[int], codec: PromptEncoder, continuation: Continuation) -> str:
        if not self.keep_special:
            prediction = codec.decode(continuation.ids, keep_special=False)
            return without_cut_word(prediction) if continuation.end is None and self.words == "unicode" else prediction
        ids = [*continuation.ids] if continuation.end is None else [*continuation.ids, continuation.end]
        if self.template and not window.raw:
            return codec.decode(ids, keep_special=True)
        return codec.decode([*prompt, *ids], keep_special=True).replace(window.text, "")
