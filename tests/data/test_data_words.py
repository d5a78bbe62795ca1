from __future__ import annotations

import random
import re
import string
import subprocess
import sys
import unicodedata
from typing import Any

import pytest
from helpers.languages import OTHERS, SENTENCES

from meow_lightning.data.words import (
    any_whole_word_pattern,
    chunk_ends,
    comparable,
    has_words,
    unreadable,
    whole_word_pattern,
    without_cut_word,
    words,
    words_and_marks,
)

TEXTS = [text for text, _ in SENTENCES.values()]


def unicode_words(text: str) -> list[str]:
    return words(text, kind="unicode")


def test_ascii_text_has_the_words_of_rouge_score() -> None:
    from rouge_score.tokenizers import DefaultTokenizer

    published = DefaultTokenizer(use_stemmer=True)
    rng = random.Random(0)
    drawn = ["".join(rng.choices(string.printable + string.ascii_letters * 3, k=80)) for _ in range(300)]
    for text in ("She's writing novels_and 12 essays -- generously!", "", "...", *drawn):
        assert unicode_words(text) == words(text, kind="published") == published.tokenize(text)
        assert words_and_marks(text) == re.findall(r"\w+|[^\w\s]", text.lower())


def test_the_published_tokenizer_is_that_of_rouge_score_in_every_script() -> None:
    from rouge_score.tokenizers import DefaultTokenizer

    published = DefaultTokenizer(use_stemmer=True)
    for text in TEXTS:
        assert words(text, kind="published") == published.tokenize(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("陈小雨1971年生。", ["陈", "小", "雨", "1971", "年", "生"]),
        ("スター・ウォーズ", ["ス", "タ", "ー", "ウ", "ォ", "ー", "ズ"]),
        ("น้ำดี ๒๕๑๔", ["น\u0e49\u0e4d", "า", "ดี", "๒๕๑๔"]),  # a character with its marks; NFKC spells sara am in two
        ("ភ្នំពេញ", ["ភ្នំ", "ពេ", "ញ"]),
        ("김민지는 1971년", ["김민지는", "1971년"]),
        ("दिल्ली में", ["दिल्ली", "में"]),
        ("القاهرة عام ١٩٧١", ["القاهرة", "عام", "١٩٧١"]),
        ("Жила-была Ёлка", ["жила", "была", "ёлка"]),
        ("Café GROSS, Straße", ["café", "gross", "strass"]),
        ("Jose\u0301 naïve's", ["josé", "naïve", "s"]),
        ("Ａｄａ １９７１ ﾘﾏ", ["ada", "1971", "リ", "マ"]),  # full and half width
        ("Lima的novels", ["lima", "的", "novel"]),  # words of ASCII are stemmed
        ("❤️👩‍🚀 §…«»", []),
        ("\u0e34", ["\u0e34"]),  # a cut inside a character leaves a mark alone
    ],
)
def test_words_by_hand(text: str, expected: list[str]) -> None:
    assert unicode_words(text) == expected
    assert has_words(text, least=1, kind="unicode") is bool(expected)


@pytest.mark.parametrize(
    ("text", "unseen"),
    [
        ("José nació en Málaga.", False),  # every word has letters that rouge_score knows
        ("Born 1971 in 北京", False),  # two of five
        ("1971 in 北京市", True),  # three of five
        ("é", True),
        ("Москва", True),
        ("?!…", False),  # nothing that could be missed
        ("Ada", False),
    ],
)
def test_texts_that_the_published_tokenizer_cannot_read(text: str, unseen: bool) -> None:
    assert unreadable(text, kind="published") is unseen
    assert not unreadable(text, kind="unicode")


def test_other_texts_have_no_word_in_common() -> None:
    for language, (text, _) in SENTENCES.items():
        assert unicode_words(OTHERS[language]), language
        assert not set(unicode_words(text)) & set(unicode_words(OTHERS[language])), language


@pytest.mark.parametrize("language", SENTENCES)
def test_a_value_is_found_in_its_sentence_and_not_in_others(language: str) -> None:
    text, value = SENTENCES[language]
    assert whole_word_pattern(value).search(text)
    assert whole_word_pattern(value, any_blanks=True, any_case=True).search(text)
    assert not whole_word_pattern(value).search(OTHERS[language])


@pytest.mark.parametrize(
    ("value", "text", "found"),
    [
        ("Lima", "Lima.", True),
        ("Lima", "Limassol", False),
        ("Lima", "Kalima", False),
        ("Lima", "我住在Lima很久", True),
        ("1971", "1971年", True),
        ("971", "1971年", False),
        ("1971", "1971년에", True),  # Korean particles stick to numbers
        ("서울", "서울에서", True),
        ("울", "서울에서", False),
        ("Москв", "Москве", False),
        ("दिल", "दिल्ली", False),  # the mark that follows makes it another syllable
        ("ก", "กิน", False),
        ("《红楼梦》", "我读《红楼梦》了", True),
        ("C++", "about C++, not C", True),
        ("C++", "C+++", True),  # signs have no inside
        ("Ada", "Adaé", False),
        ("é", "cafe\u0301", False),
    ],
)
def test_where_words_begin_and_end(value: str, text: str, found: bool) -> None:
    assert bool(whole_word_pattern(value).search(text)) is found


def test_blanks_and_case_on_demand() -> None:
    assert not whole_word_pattern("New York").search("in new  york")
    assert whole_word_pattern("New York", any_blanks=True, any_case=True).search("in new \n york")
    assert whole_word_pattern("北京", any_blanks=True).split("在北京市") == ["在", "市"]


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("Ada Lee, 3", [3, 8, 10]),
        ("我住，在。", [1, 3, 5]),  # marks belong to the character before
        ("กิน ข้าว", [2, 3, 6, 7, 8]),
        ("Lima在 Peru", [4, 5, 10]),
        ("दिल्ली में", [6, 10]),
        ("  ", []),
    ],
)
def test_where_a_text_can_be_cut(text: str, ends: list[int]) -> None:
    assert chunk_ends(text) == ends


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("in Mosk", "in Mosk"),  # numbers of ASCII texts stay as they are
        ("в Моск", "в "),
        ("กรุง", "กรุ"),
        ("在北\ufffd", "在"),
        ("в Москве.", "в Москве."),  # the word ended
        ("в Москве ", "в Москве "),
        ("?!", "?!"),
        ("", ""),
    ],
)
def test_answers_cut_off_by_the_budget_lose_their_last_word(text: str, kept: str) -> None:
    assert without_cut_word(text) == kept


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Where was Ada born?", "where  was ada born", True),
        ("Where was Ada born?", "“Where was Ada born”", True),
        ("陈小雨在哪里出生？", "陈小雨在哪里出生", True),
        ("Was ist Straße?", "WAS IST STRASSE", True),
        ("Ada’s book?", "Ada's book", True),
        (unicodedata.normalize("NFD", "Où est José?"), "Où est José", True),
        ("What is C#?", "What is C?", False),
        ("?", "!", False),
        ("What is C++?", "What is C?", False),
        ("Where was Ada born?", "Where was Bob born?", False),
    ],
)
def test_texts_for_comparing(one: str, other: str, alike: bool) -> None:
    assert (comparable(one) == comparable(other)) is alike


@pytest.mark.parametrize("text", ["Ada Brook's 12 running dogs, 1971.", "Café naïve 東京 1971", "...", "ab1c2 de_f"])
@pytest.mark.parametrize("kind", ["unicode", "published"])
def test_as_many_words_are_counted_as_are_compared(text: str, kind: Any) -> None:
    count = len(words(text, kind=kind))
    assert has_words(text, least=count, kind=kind)
    assert not has_words(text, least=count + 1, kind=kind)


def test_counting_words_imports_no_stemmer() -> None:
    """Every plan counts the words of every window, and the stemmer's libraries take a second to import."""
    code = (
        "import sys; from meow_lightning.data.words import has_words; "
        "has_words('Ada in Lima', least=3, kind='unicode'); "
        "print({'rouge_score', 'nltk', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_any_of_several_texts_is_found_the_longest_first_and_in_every_script() -> None:
    swaps = {"Ada": "Bo", "Ada Brook": "Bo Karl", "東京": "大阪"}
    swapped = any_whole_word_pattern(swaps).sub(
        lambda match: swaps[match.group()], "Ada Brook, not Adams, met Ada; 住在東京。"
    )
    assert swapped == "Bo Karl, not Adams, met Bo; 住在大阪。"
