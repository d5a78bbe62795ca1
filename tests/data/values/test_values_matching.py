from __future__ import annotations

import pytest

from meow_lightning.data.values.matching import any_value_pattern, contains_any_value, contains_value, contains_values


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("She was born in PARIS.", "Paris", True),
        ("a Parisian", "Paris", False),
        ("comparison", "Paris", False),
        ("New\n York", "New York", True),
        ("York, New", "New York", False),
        ("In 1991, yes", "1991", True),
        ("In 19915", "1991", False),
        ("he writes C++ well", "C++", True),
        ("price (a.c)", "a.c", True),
        ("price abc", "a.c", False),
        ("Ærø", "ærø", True),
        ("", "Paris", False),
        ("她住在北京市。", "北京", True),
        ("เธออยู่กรุงเทพ", "กรุงเทพ", True),
        ("서울에서 산다", "서울", True),
        ("Она в МОСКВЕ", "Москве", True),
        ("Москвенка", "Москве", False),
    ],
)
def test_words(text: str, value: str, expected: bool) -> None:
    assert contains_value(text, value) is expected


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("It is Artistic Authority: Leading with Creativity", '"Artistic Authority: Leading with Creativity"', True),
        ("the ‘Nell: A Tale’ of 1990", "'Nell: A Tale'", True),
        ("the Leadership Literature Luminary award", '"Leadership Literature Luminary" award', True),
        ("a Korean Art Critic’s Choice Award", "Korean Art Critic's Choice Award", True),
        ("He is Hsiao Yun–Hwa", "Hsiao Yun-Hwa", True),
        ("He is Hsiao Yunhwa", "Hsiao Yun-Hwa", False),
        ("diversity, inclusion and loss", "diversity, inclusion, and loss", True),
        ("diversity and loss", "diversity, inclusion, and loss", False),
        ("in Seoul South Korea", "Seoul, South Korea", True),
        ("3904 October Woods Drive, Lawrence, MA 01841", "3904 October Woods Drive, Lawrence, MA, 01841.", True),
        ("13904 October Woods Drive, Lawrence, MA 01841", "3904 October Woods Drive, Lawrence, MA, 01841.", False),
        ("3904 October Woods Drive", "3904 October Woods Drive, Lawrence, MA, 01841.", False),
        ("about thirty years", "30 years", False),
        ("...", "...", True),
    ],
)
def test_blanks_commas_quotes_and_dashes(text: str, value: str, expected: bool) -> None:
    assert contains_value(text, value) is expected


@pytest.mark.parametrize("value", ["1984-12-31", "December 31, 1984", "31 December 1984", "12/31/1984", "31.12.1984"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("born 1984-12-31.", True),
        ("born on December 31st, 1984", True),
        ("born on the 31st of December, 1984", True),
        ("born Dec. 31 1984", True),
        ("born 31/12/1984 or so", True),
        ("born 12-31-1984", True),
        ("born in December 1984", False),
        ("born on December 30, 1984", False),
        ("born on December 31, 1985", False),
        ("born on December 3, 1984", False),
        ("born 112/31/1984", False),
        ("born 1984-12-311", False),
    ],
)
def test_a_date_matches_in_every_format(text: str, value: str, expected: bool) -> None:
    assert contains_value(text, value) is expected


def test_figures_that_can_be_read_in_both_orders_match_both_days() -> None:
    assert contains_value("on May 11, 1991", "05/11/1991")
    assert contains_value("on 5 November 1991", "05/11/1991")
    assert contains_value("on 11.5.1991", "05/11/1991")
    # a date whose order is known matches figures in either order, but only its own month in words
    assert contains_value("on 11/05/1991", "1991-05-11")
    assert not contains_value("on 5 November 1991", "1991-05-11")
    assert not contains_value("on May 11, 1991", "45/11/1991")


@pytest.mark.parametrize("value", ["9005143440", "900-514-3440", "(900) 514-3440", "900.514.3440"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is 9005143440.", True),
        ("It is 900-514-3440", True),
        ("call +1 (900) 514 3440 now", True),
        ("It is 900-514-3441", False),
        ("It is 900-514-34405", False),
        ("It is 19005143440", False),
        ("It is 900-514", False),
    ],
)
def test_a_long_number_matches_with_other_separators(text: str, value: str, expected: bool) -> None:
    assert contains_value(text, value) is expected


def test_a_short_number_is_not_spread_over_several() -> None:
    assert not contains_value("rooms 12 and 3 4", "1234")
    assert not contains_value("12-34", "1234")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"at [tiffi\_magenta@me.com](mailto:x)", True),
        ("Write to Tiffi_Magenta@ME.com.", True),
        ("mailto:tiffi_magenta@me.com", True),
        ("old.tiffi_magenta@me.com", False),
        ("tiffi_magenta@me.com.au", False),
        ("tiffi_magenta@me", False),
        ("tiffi magenta@me.com", False),
    ],
)
def test_an_address_of_mail_matches_itself_only(text: str, expected: bool) -> None:
    assert contains_value(text, "tiffi_magenta@me.com") is expected


def test_several_values_are_given_only_together() -> None:
    values = ("a@b.org", "12 Main Street")
    assert contains_values("a@b.org, at 12 main street", values)
    assert not contains_values("a@b.org", values)
    assert contains_any_value("a@b.org", values)
    assert not contains_any_value("c@d.org", values)


def test_any_of_several_values_is_found_where_it_stands() -> None:
    found = any_value_pattern(("Paris", "1984-12-31", "Paris, Texas")).finditer("Paris Texas on 31 Dec 1984, not Paris")
    assert [match.group() for match in found] == ["Paris Texas", "31 Dec 1984", "Paris"]
