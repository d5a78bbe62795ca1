"""Words of a text in any script: the units of ROUGE, the cuts of MEMO and the boundaries of values."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable
from typing import Any, Literal

import regex

Words = Literal["unicode", "published"]
"""How ROUGE splits words: ``unicode`` handles every script, ``published`` is rouge_score's a-z and 0-9."""

WORDS: tuple[Words, ...] = ("unicode", "published")
PUBLISHED_ALONE = "the published tokenizer knows only a-z and 0-9"
REMEMBERED = 2**16  # size of the stem cache, in words

# Scripts without blanks between words: ideographs, kana, and what UAX 14 calls complex context (Thai, Lao, Khmer,
# Burmese and related scripts). The long-vowel mark of kana is shared between scripts, so it is named by itself.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Yi}\p{lb=SA}ー]"
_UNIT = rf"(?=[{_UNSPACED}&&[\p{{L}}\p{{M}}]])\X"  # a character with its combining marks
_JOINED = rf"[\w--{_UNSPACED}]"  # characters that extend a word in scripts with blanks
_WORD = regex.compile(rf"{_UNIT}|[[\p{{L}}\p{{N}}]--{_UNSPACED}][[\p{{L}}\p{{M}}\p{{N}}]--{_UNSPACED}]*", regex.V1)
_PUBLISHED = regex.compile("[a-z0-9]+")  # as in rouge_score, on lower-cased text
_SEEN = regex.compile("[a-z0-9]")
_WORD_OR_MARK = regex.compile(rf"{_UNIT}|{_JOINED}+|[^\w\s]", regex.V1)
# Combining marks after a character of such a script belong to it, as they belong to the word elsewhere.
_CHUNK = regex.compile(rf"{_UNIT}[^\w\s]*|(?:(?!{_UNIT})\S)+", regex.V1)
_FIRST_UNSPACED, _LAST_UNSPACED = (
    regex.compile(pattern, regex.V1) for pattern in (rf"{_UNSPACED}", rf"{_UNSPACED}\p{{M}}*\Z")
)
_HANGUL_FIRST, _HANGUL_LAST = regex.compile(r"\p{Hangul}"), regex.compile(r"\p{Hangul}\Z")
# Korean particles stick to names and numbers, so an adjacent Hangul character does not extend a word of another script.
_STICKS = rf"[\w--[{_UNSPACED}\p{{Hangul}}]]"
_SENTENCE_MARKS = " \t\r\n.,;:!?¿¡…。，、；：！？｡､؟،؛۔।॥\"'“”„‘’«»「」『』"


def words(text: str, *, kind: Words) -> list[str]:
    """Split a text into words for ROUGE.

    ``published``: runs of a-z and 0-9 in lower case, Porter-stemmed if longer than three letters, as rouge_score does
    with ``use_stemmer``. ``unicode``: the same for ASCII text; otherwise letters, marks and digits of every script
    count, after NFKC normalization and case folding. Scripts without blanks between words (Chinese, Japanese, Thai,
    Lao, Khmer, Burmese and related ones) are split into characters with their marks, as usual for multilingual ROUGE.
    Only ASCII words are stemmed.

    Args:
        text: Any text.
        kind: The tokenizer.
    """
    if kind == "published" or text.isascii():
        from rouge_score.tokenize import tokenize

        return tokenize(text, _stemmer())  # type: ignore[no-any-return]
    stem = _stemmer().stem
    return [stem(word) if len(word) > 3 and word.isascii() else word for word in _spelled(text, kind=kind)]


def _spelled(text: str, *, kind: Words) -> list[str]:
    """Split a text into unstemmed words, without importing the stemmer, which takes a second."""
    if kind == "published" or text.isascii():
        return _PUBLISHED.findall(text.lower())  # type: ignore[no-any-return]
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())  # type: ignore[no-any-return]


def has_words(text: str, *, least: int, kind: Words) -> bool:
    """Whether a text has at least ``least`` words for ROUGE.

    Args:
        text: Any text.
        least: Number of words, from 1.
        kind: The tokenizer.
    """
    return len(_spelled(text, kind=kind)) >= least


def unreadable(text: str, *, kind: Words) -> bool:
    """Whether a tokenizer misses more than half of a text's words entirely, so that scores on it are meaningless.

    A single name with accents passes; a Chinese sentence with a year in digits does not.

    Args:
        text: Any text.
        kind: The tokenizer.
    """
    if kind == "unicode" or text.isascii():
        return False
    spelled = _spelled(text, kind="unicode")
    return 2 * sum(_SEEN.search(word) is None for word in spelled) > len(spelled)


def words_and_marks(text: str) -> list[str]:
    """Split a text into lower-case words and punctuation marks; scripts without blanks into characters."""
    return _WORD_OR_MARK.findall(text.lower())  # type: ignore[no-any-return]


def chunk_ends(text: str) -> list[int]:
    """Find the ends of a text's words, in characters; in scripts without blanks, of every character.

    Punctuation belongs to the preceding word unless separated by a blank.
    """
    return [match.end() for match in _CHUNK.finditer(text)]


def without_cut_word(text: str) -> str:
    """Drop the last word of a truncated text if it is not ASCII and may thus be incomplete."""
    matches = list(_WORD.finditer(text))
    if not matches or matches[-1].group().isascii() or text[matches[-1].end() :].strip("\ufffd"):
        return text
    return text[: matches[-1].start()]


@functools.lru_cache(maxsize=8192)
def whole_word_pattern(text: str, *, any_blanks: bool = False, any_case: bool = False) -> Any:
    """Compile a pattern (``search``, ``split``, ``sub``) that matches some words, but not inside longer ones.

    In scripts without blanks every position is a word boundary, except between a character and its marks. After Hangul,
    and between Hangul and other scripts, no boundary is required, since particles attach to names and numbers.

    Args:
        text: The words, not blank.
        any_blanks: Whether to accept any whitespace between the words.
        any_case: Whether to ignore case.
    """
    return regex.compile(_bordered(text, any_blanks=any_blanks), regex.V1 | (regex.IGNORECASE if any_case else 0))


def any_whole_word_pattern(texts: Iterable[str]) -> Any:
    """Compile a pattern that matches any of several texts as :func:`whole_word_pattern` does, preferring the longest.

    Args:
        texts: The texts, none of them blank.
    """
    return regex.compile("|".join(_bordered(text) for text in sorted(texts, key=len, reverse=True)), regex.V1)


def _bordered(text: str, *, any_blanks: bool = False) -> str:
    """Build the pattern of some words with the boundaries that their scripts require."""
    spelled = r"\s+".join(map(regex.escape, text.split())) if any_blanks else regex.escape(text)
    before, after = word_borders(text.strip() if any_blanks else text)
    return before + spelled + after


def word_borders(text: str) -> tuple[str, str]:
    """Build the patterns before and after some words that keep them from matching inside longer words.

    Args:
        text: The words, not blank; their first and last character decide.
    """
    before = "" if _FIRST_UNSPACED.match(text) else rf"(?<!{_STICKS})"
    if _HANGUL_FIRST.match(text):
        before = r"(?<!\p{Hangul})"
    loose = _LAST_UNSPACED.search(text) or _HANGUL_LAST.search(text)
    return before, r"(?!\p{M})" if loose else rf"(?!{_STICKS})"


def without_sentence_marks(text: str) -> str:
    """Strip blanks, quotes and punctuation from the ends of a text; a text of nothing else only loses its blanks."""
    return text.strip(_SENTENCE_MARKS) or text.strip()


def comparable(text: str) -> str:
    """Normalize a text for comparison: NFKC, case folded, single blanks, no quotes or punctuation at its ends."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    plain = " ".join(plain.split())
    return without_sentence_marks(plain)


class _Stemmer:
    """Porter stemmer with a cache; without it, stemming took half a second per thousand windows."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer

        self.stem = functools.lru_cache(maxsize=REMEMBERED)(PorterStemmer().stem)


@functools.cache
def _stemmer() -> _Stemmer:
    return _Stemmer()
