"""Words of a text in any script: what ROUGE counts, where MEMO cuts, and where a value begins and ends."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable
from typing import Any, Literal

import regex

Words = Literal["unicode", "published"]
"""How ROUGE finds words: in every script, or as rouge_score does, which knows a-z and 0-9 alone."""

WORDS: tuple[Words, ...] = ("unicode", "published")
PUBLISHED_ALONE = "the published tokenizer knows only a-z and 0-9"
REMEMBERED = 2**16  # words and their stems

# Scripts without blanks between words: ideographs, kana, and what UAX 14 calls complex context (Thai, Lao, Khmer,
# Burmese and their kin). The long-vowel mark of kana is shared between scripts, so it is named by itself.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Yi}\p{lb=SA}ー]"
_UNIT = rf"(?=[{_UNSPACED}&&[\p{{L}}\p{{M}}]])\X"  # a character with its marks
_JOINED = rf"[\w--{_UNSPACED}]"  # what makes a word longer in scripts with blanks
_WORD = regex.compile(rf"{_UNIT}|[[\p{{L}}\p{{N}}]--{_UNSPACED}][[\p{{L}}\p{{M}}\p{{N}}]--{_UNSPACED}]*", regex.V1)
_PUBLISHED = regex.compile("[a-z0-9]+")  # as rouge_score finds them in lower case
_SEEN = regex.compile("[a-z0-9]")
_WORD_OR_MARK = regex.compile(rf"{_UNIT}|{_JOINED}+|[^\w\s]", regex.V1)
# Marks after a character without blanks belong to it, as they belong to the word elsewhere.
_CHUNK = regex.compile(rf"{_UNIT}[^\w\s]*|(?:(?!{_UNIT})\S)+", regex.V1)
_FIRST_UNSPACED, _LAST_UNSPACED = (
    regex.compile(pattern, regex.V1) for pattern in (rf"{_UNSPACED}", rf"{_UNSPACED}\p{{M}}*\Z")
)
_HANGUL_FIRST, _HANGUL_LAST = regex.compile(r"\p{Hangul}"), regex.compile(r"\p{Hangul}\Z")
# Korean particles stick to names and numbers, so a Hangul neighbour does not make a word of another script longer.
_STICKS = rf"[\w--[{_UNSPACED}\p{{Hangul}}]]"
_SENTENCE_MARKS = " \t\r\n.,;:!?¿¡…。，、；：！？｡､؟،؛۔।॥\"'“”„‘’«»「」『』"


def words(text: str, *, kind: Words) -> list[str]:
    """The words of a text for ROUGE.

    ``published``: runs of a-z and 0-9 in lower case, those of more than three letters stemmed (Porter), as rouge_score
    does with ``use_stemmer``. ``unicode``: the same for ASCII text. Elsewhere letters, marks and digits of every script
    count, compatibility forms made alike (NFKC) and case folded; scripts without blanks between words (Chinese,
    Japanese, Thai, Lao, Khmer, Burmese and their kin) count character by character, each with its marks, as is usual
    for multilingual ROUGE. Words of ASCII alone are stemmed.

    Args:
        text: Any text.
        kind: Which tokenizer.
    """
    if kind == "published" or text.isascii():
        from rouge_score.tokenize import tokenize

        return tokenize(text, _stemmer())  # type: ignore[no-any-return]
    stem = _stemmer().stem
    return [stem(word) if len(word) > 3 and word.isascii() else word for word in _spelled(text, kind=kind)]


def _spelled(text: str, *, kind: Words) -> list[str]:
    """The words of a text before they are stemmed, without the libraries that stem: importing these takes a second."""
    if kind == "published" or text.isascii():
        return _PUBLISHED.findall(text.lower())  # type: ignore[no-any-return]
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())  # type: ignore[no-any-return]


def has_words(text: str, *, least: int, kind: Words) -> bool:
    """Whether ROUGE finds at least so many words in a text.

    Args:
        text: Any text.
        least: Number of words, from 1.
        kind: Which tokenizer.
    """
    return len(_spelled(text, kind=kind)) >= least


def unreadable(text: str, *, kind: Words) -> bool:
    """Whether a tokenizer sees nothing of more than half of the words of a text: what it then counts is no measure.

    A single name with accents passes; a Chinese sentence with a year in digits does not.

    Args:
        text: Any text.
        kind: Which tokenizer.
    """
    if kind == "unicode" or text.isascii():
        return False
    found = _spelled(text, kind="unicode")
    return 2 * sum(_SEEN.search(word) is None for word in found) > len(found)


def words_and_marks(text: str) -> list[str]:
    """Words and punctuation marks in lower case; scripts without blanks character by character."""
    return _WORD_OR_MARK.findall(text.lower())  # type: ignore[no-any-return]


def chunk_ends(text: str) -> list[int]:
    """Where the words of a text end, in characters: before the blank, or where a script has none, after each character.

    Punctuation belongs to the word before it, unless a blank stands between.
    """
    return [found.end() for found in _CHUNK.finditer(text)]


def without_cut_word(text: str) -> str:
    """A text that a budget of tokens cut off, without its last word where that is not ASCII and may be half of one."""
    found = list(_WORD.finditer(text))
    if not found or found[-1].group().isascii() or text[found[-1].end() :].strip("\ufffd"):
        return text
    return text[: found[-1].start()]


@functools.lru_cache(maxsize=8192)
def whole_word_pattern(text: str, *, any_blanks: bool = False, any_case: bool = False) -> Any:
    """A pattern (``search``, ``split``, ``sub``) that finds some words, but not inside longer ones.

    Next to scripts without blanks every place is a border, but not one between a character and its marks. After Hangul,
    and between Hangul and other scripts, there is none to be asked for, since particles stick to names and numbers.

    Args:
        text: The words, not blank.
        any_blanks: Whether blanks between the words may be others, or more of them.
        any_case: Whether case does not matter.
    """
    return regex.compile(_bordered(text, any_blanks=any_blanks), regex.V1 | (regex.IGNORECASE if any_case else 0))


def any_whole_word_pattern(texts: Iterable[str]) -> Any:
    """A pattern that finds any of some texts, as :func:`whole_word_pattern` finds one; the longest where several fit.

    Args:
        texts: The texts, none of them blank.
    """
    return regex.compile("|".join(_bordered(text) for text in sorted(texts, key=len, reverse=True)), regex.V1)


def _bordered(text: str, *, any_blanks: bool = False) -> str:
    """The pattern of some words between the borders that their scripts have."""
    spelled = r"\s+".join(map(regex.escape, text.split())) if any_blanks else regex.escape(text)
    plain = text.strip() if any_blanks else text
    before = "" if _FIRST_UNSPACED.match(plain) else rf"(?<!{_STICKS})"
    if _HANGUL_FIRST.match(plain):
        before = r"(?<!\p{Hangul})"
    loose = _LAST_UNSPACED.search(plain) or _HANGUL_LAST.search(plain)
    after = r"(?!\p{M})" if loose else rf"(?!{_STICKS})"
    return before + spelled + after


def comparable(text: str) -> str:
    """A text for comparing: no case, single blanks, compatibility forms alike, no quotes or marks at its ends."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    plain = " ".join(plain.split())
    return plain.strip(_SENTENCE_MARKS) or plain


class _Stemmer:
    """The Porter stemmer, which stems a word once: half of a second per thousand windows went into the same few."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer

        self.stem = functools.lru_cache(maxsize=REMEMBERED)(PorterStemmer().stem)


@functools.cache
def _stemmer() -> _Stemmer:
    return _Stemmer()
