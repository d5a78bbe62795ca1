"""Pairs of a value and a text: which spellings are the same value, and which are not."""

from __future__ import annotations

from datetime import date

import pytest
from babel.dates import format_date
from hypothesis import given
from hypothesis import strategies as st

from meow_lightning.data.values.matching import contains_value

NUMBERS_SAME = [
    ("74500", "She earns 74,500 a year."), ("74500", "74.500 im Jahr"), ("74500", "74 500 par an"),
    ("74500", "74'500"), ("74,500", "74500"), ("74,500", "74.500"), ("74500", "74,500.00"), ("74.500", "74,500"),
    ("1.234.567", "1234567"), ("1234567", "1,234,567"), ("1,234,567", "1.234.567"), ("1984", "31.12.1984"),
    ("1984", "in 1984."), ("500", "500 people"), ("40", "40, they say"), ("12.5", "12.5 km"), ("1991", "1990,1991"),
]  # fmt: skip
NUMBERS_OTHER = [
    ("74,500", "174,500"), ("74500", "74,501"), ("74500", "1,074,500"), ("74,500", "2,74,500"), ("74500", "74500.50"),
    ("74.500", "74500"), ("1,234,567", "1,234.567"), ("1984", "1,984 people"), ("1,984", "in 1984"),
    ("500", "74,500"), ("40", "40,000"), ("12.5", "112.5"), ("01841", "01,841"), ("PL-74500", "PL-74,500"),
]  # fmt: skip
MONEY_SAME = [
    ("$74,500", "74,500 dollars"), ("$74,500", "USD 74500"), ("$74,500", "US$74,500.00"),
    ("$74,500", "74,500 US dollars"), ("74.500 €", "EUR 74,500"), ("74.500 €", "74.500,00 Euro"),
    ("74.500 €", "74500 €"), ("74,500 dollars", "$74500"), ("$1,984", "1984 dollars"), ("£12.50", "12,50 pounds"),
    ("£12.50", "12.5 pounds"), ("3 250 kr", "3 250 kr"), ("CHF 1'200", "1200 Franken"),
]  # fmt: skip
MONEY_OTHER = [
    ("$74,500", "74,500 euros"), ("$74,500", "$74,500.50"), ("$74,500", "$74,5"), ("$1,984", "in 1984"),
    ("£12.50", "12.55 pounds"), ("£12.50", "£112.50"), ("$74,500", "a salary of 74,500"),
]  # fmt: skip
DATES_SAME = [
    ("1985-03-03", "am 3. März 1985"), ("3. März 1985", "March 3, 1985"), ("3. März 1985", "1985-03-03"),
    ("March 3, 1985", "le 3 mars 1985"), ("3 de marzo de 1985", "3 March 1985"), ("1 mars 1985", "1er mars 1985"),
    ("1985-03-03", "3 de marzo de 1985"),
]  # fmt: skip
DATES_OTHER = [
    ("1985-03-03", "3. Mai 1985"), ("3. März 1985", "13. März 1985"), ("3. März 1985", "3. März 1986"),
    ("3. März 1985", "im März 1985"), ("7. Juli 1990", "7 juin 1990"),
]  # fmt: skip
ADDRESSES_SAME = [
    ("12 Birch Lane", "Birch Lane 12"), ("12 Birch Lane", "at Birch Lane, 12"), ("Birch Lane 12", "12 Birch Lane"),
    ("12 Birch Lane", "12 Birch Ln."), ("12 Birch Lane, Zwolle", "Birch Lane 12, Zwolle"),
    ("5 High St.", "5 High Street"), ("5 High Street", "High St 5"), ("Birkenstraße 12", "Birkenstr. 12"),
    ("Birkenstraße 12", "Birkenstrasse 12"), ("Birkenstraße 12", "12 Birkenstraße"),
    ("12 Birch Lane", "12 birch lane"),
    ("3904 October Woods Drive, Lawrence, MA 01841", "3904 October Woods Dr., Lawrence, MA 01841"),
]  # fmt: skip
ADDRESSES_OTHER = [
    ("12 Birch Lane", "Birch Lane 120"), ("12 Birch Lane", "112 Birch Lane"), ("12 Birch Lane", "Birch Lane 12a"),
    ("12 Birch Lane", "12 Birch Road"), ("12 Birch Lane", "12 Elm Lane"), ("12 Birch Lane", "Birch Lane"),
    ("Birkenstraße 12", "Birkenstraße 1"),
]  # fmt: skip
PHONES_SAME = [
    ("+49 30 1234567", "0049 30 1234567"), ("+49 30 1234567", "+49 (0)30 123 45 67"),
    ("+49 30 1234567", "49301234567"), ("030/1234567", "030 123-4567"),
]  # fmt: skip
PHONES_OTHER = [
    ("+49 30 1234567", "+49 30 1234568"), ("+49 30 1234567", "+49 30 12345678"),
    ("+49 30 1234567", "+149 30 1234567"),
]  # fmt: skip
SAINTS_SAME = [
    ("St. Gallen", "in Saint Gallen"), ("Saint Petersburg", "St Petersburg"),
]  # fmt: skip
SAINTS_OTHER = [
    ("St. Gallen", "West Gallen"), ("St. Gallen", "St. Moritz"), ("Birch St.", "Birch Saint"),
]  # fmt: skip
YEARS = st.dates(min_value=date(1000, 1, 1))
SAME = [*NUMBERS_SAME, *MONEY_SAME, *DATES_SAME, *ADDRESSES_SAME, *PHONES_SAME, *SAINTS_SAME]
OTHER = [*NUMBERS_OTHER, *MONEY_OTHER, *DATES_OTHER, *ADDRESSES_OTHER, *PHONES_OTHER, *SAINTS_OTHER]


@pytest.mark.parametrize(("value", "text"), SAME)
def test_the_same_value_in_other_spellings(value: str, text: str) -> None:
    assert contains_value(text, value)


@pytest.mark.parametrize(("value", "text"), OTHER)
def test_what_only_looks_alike_is_another_value(value: str, text: str) -> None:
    assert not contains_value(text, value)


@given(st.integers(10_000, 10**12 - 1), st.sampled_from([",", ".", "'", "\u2019", " ", "\u00a0", ""]))
def test_a_number_is_found_in_every_grouping_and_no_other_number_is(number: int, mark: str) -> None:
    def spelled(value: int) -> str:
        return f"{value:,}".replace(",", mark)

    text = f"They counted {spelled(number)} of them."
    assert contains_value(text, str(number))
    assert contains_value(text, f"{number:,}")
    for other in (number + 1, number - 1, 10 * number, number // 10, 10**12 + number):
        assert not contains_value(text, str(other))
    if mark == ",":
        assert not contains_value(text, str(number // 1000))
        assert not contains_value(text, f"{number // 1000:,}")
        assert not contains_value(text, f"{number % 1_000_000:,}") or number < 1_000_000


@given(YEARS, YEARS, st.sampled_from(["de", "fr", "es", "it", "nl", "pt", "sv", "en"]))
def test_a_date_in_words_is_found_in_every_language_and_no_other_day_is(day: date, other: date, language: str) -> None:
    text = f"born {format_date(day, 'd MMMM y', locale=language)}, they say"
    assert contains_value(text, day.isoformat())
    assert contains_value(text, other.isoformat()) is (day == other)
