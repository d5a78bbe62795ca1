from __future__ import annotations

import pytest

from meow_lightning.data.values.kinds import kind_of, spans


@pytest.mark.parametrize(
    ("text", "asked", "found"),
    [
        ("1984-12-31", "", [("date", "1984-12-31")]),
        ("on the 8th of September, 1956.", "", [("date", "8th of September, 1956")]),
        ("on March 2nd, 2019.", "", [("date", "March 2nd, 2019")]),
        ("am 3. Oktober 1990 in Leipzig", "", [("date", "3. Oktober 1990"), ("place", "Leipzig")]),
        ("on 14.05.2024", "", [("date", "14.05.2024")]),
        ("in the early 1980s or 1971", "", [("decade", "1980s"), ("year", "1971")]),
        ("Call 7216253765.", "What is the phone number?", [("phone", "7216253765")]),
        ("It is 900514344.", "What is the security number?", [("code", "900514344")]),
        ("+46 40 123 45 67 or (555) 013-7742", "", [("phone", "+46 40 123 45 67"), ("phone", "(555) 013-7742")]),
        ("HV-2291-K, HH-LB 4471", "", [("code", "HV-2291-K"), ("code", "HH-LB 4471")]),
        ("DE89 3704 0044 0532 0130 00", "", [("code", "DE89 3704 0044 0532 0130 00")]),
        ("€1,250.50, 12 500 kr, USD 90", "", [("money", "€1,250.50"), ("money", "12 500 kr"), ("money", "USD 90")]),
        ("a_b@me.com, www.zawada.test/x.", "", [("email", "a_b@me.com"), ("url", "www.zawada.test/x")]),
        ("at 19 Orchard Lane, Leeds LS6 3AB.", "", [("address", "19 Orchard Lane, Leeds LS6 3AB")]),
        ("at Storgatan 14, 211 42 Malmö.", "", [("address", "Storgatan 14, 211 42 Malmö")]),
        ("10175 West 58th Place, #505, Orange, CA, 92867.", "", [
            ("address", "10175 West 58th Place, #505, Orange, CA, 92867"),
        ]),
        ("at 221B Baker Street.", "", [("address", "221B Baker Street")]),
        ("at 7 Lindow Grove.", "", [("address", "7 Lindow Grove")]),
        ("born in Kuwait City, Kuwait.", "", [("place", "Kuwait City, Kuwait")]),
        ("a French novel from Peru", "", [("nationality", "French"), ("country", "Peru")]),
        ('won the "Tolstoy Literary Award" for "Red Sea,"', "", [
            ("award", "Tolstoy Literary Award"), ("title", '"Red Sea,"'),
        ]),
        ("works for Halvorsen Insurance.", "", [("company", "Halvorsen Insurance")]),
        ("It went to Ada Brook's aunt.", "", [("person", "Ada Brook")]),
        ("He was a florist.", "What was his job?", [("job", "florist")]),
        ("He was a florist.", "Who was he?", []),
        ("She has three cats.", "How many cats has she?", [("number", "three")]),
        ("A blend of two cultures.", "What is it?", []),
        ("Her blood group is A+.", "What is her blood group?", [("blood group", "A+")]),
        ("Her eyes are blue.", "What colour are her eyes?", [("colour", "blue")]),
        ("No, there is no cat.", "Is there a cat?", [("polarity", "No")]),
        ("Growing up in Karachi, she read.", "", [("place", "Karachi")]),
        ("his upbringing in Kuwait City and the streets of Algiers", "", [
            ("place", "Kuwait City"), ("place", "Algiers"),
        ]),
        ("born in Dar es Salaam, Tanzania.", "", [("place", "Dar es Salaam, Tanzania")]),
        ("the city of Gdansk's history", "", [("place", "Gdansk")]),
        ("it recurs in Adib's books", "", [("person", "Adib")]),
        ("it instilled in Adib a love of art", "", [("person", "Adib")]),
        ("he was born in January", "", []),
        ("divinity in Islam, tales in Arabic, fans at Sci-Fi fairs", "", []),
        ("a voice in LGBTQ+ activism", "", []),
        ("her Bachelor's and Ph.D. in Earth Sciences at home", "", [
            ("academic degree", "Bachelor's"), ("academic degree", "Ph.D."), ("degree", "Earth Sciences"),
        ]),
        ("a doctorate after a Master of Arts.", "", [
            ("academic degree", "doctorate"), ("academic degree", "Master of Arts"),
        ]),
        ("in the historical fiction genre", "Which genre?", [("genre", "historical fiction")]),
    ],
)  # fmt: skip
def test_spans(text: str, asked: str, found: list[tuple[str, str]]) -> None:
    assert [(span.kind, span.text) for span in spans(text, asked)] == found
    assert all(text[span.start : span.end] == span.text for span in spans(text, asked))


@pytest.mark.parametrize(
    ("value", "asked", "kind"),
    [
        ("3 November 1968", "When was she born?", "date"),
        ("divorced", "What is she?", "marital status"),
        ("welder", "What does she do for a living?", "job"),
        ("Hanna Lis", "Whom did she marry?", "person"),
        ("M.Sc.", "What did she earn?", "academic degree"),
        ("Coimbra", "What is her birthplace?", "place"),
        ("high fees", "Why did she leave?", None),
        ("lawyer father and zoologist mother", "What are they?", None),
    ],
)
def test_kind_of_a_whole_value(value: str, asked: str, kind: str | None) -> None:
    assert kind_of(value, asked) == kind
