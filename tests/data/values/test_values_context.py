from __future__ import annotations

import pytest

from meow_lightning.data.values.context import degrees, fields_of_study, lower_common_words, places_in_context
from meow_lightning.data.values.word_lists import DEGREES


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("She grew up in Karachi and moved to Hong Kong.", ["Karachi", "Hong Kong"]),
        ("a diner in Kerrville and one near Braga", ["Kerrville", "Braga"]),
        ("born in Côte d'Ivoire", ["Côte d'Ivoire"]),
        ("on the outskirts of Rio de Janeiro!", ["Rio de Janeiro"]),
        ("a theme in Adib's books", []),
        ("a theme in Adib Jarrah books", []),
        ("characters in Adib resemble him", []),
        ("born in March, educated in English", []),
        ("believes in Gaia", []),
        ("Petals in Wind", []),
    ],
)
def test_places_in_context(text: str, places: list[str]) -> None:
    assert list(dict.fromkeys(text[start:end] for start, end in places_in_context(text))) == places


@pytest.mark.parametrize("name", sorted({name for row in DEGREES for name in row}))
def test_every_listed_degree_is_recognized_whole_but_not_inside_words(name: str) -> None:
    text = f"He earned a {name} in Law"
    assert [text[start:end] for start, end in degrees(text)] == [name]
    assert not list(degrees(f"x{name}"))
    assert not list(degrees(f"{name.rstrip('.')}x"))


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("a Master's in Creative Writing from Oslo", ["Creative Writing"]),
        ("majored in Food and Earth Sciences.", ["Food and Earth Sciences"]),
        ("a degree in Law", ["Law"]),
        ("a degree in her pocket, in Law", []),
    ],
)
def test_fields_of_study(text: str, fields: list[str]) -> None:
    assert [text[start:end] for start, end in fields_of_study(text)] == fields


def test_common_words_after_a_preposition_lose_their_capital() -> None:
    assert lower_common_words("written in Arabic, set in Cork, fond of Arabic") == (
        "written in arabic, set in Cork, fond of Arabic"
    )
