from __future__ import annotations

import re
from datetime import date
from random import Random

import pytest

from meow_lightning.data.values.generators import Hints, first_names, fix_article, gender_of, generate_value
from meow_lightning.data.values.kinds import spans

FORMS = {
    ("date", "1984-12-31"): r"\d{4}-\d\d-\d\d",
    ("date", "08/09/1956"): r"\d\d/\d\d/\d{4}",
    ("date", "8th of September, 1956"): r"\d{1,2}(?:st|nd|rd|th) of [A-Z][a-z]+, \d{4}",
    ("date", "Dec 31, 1984"): r"[A-Z][a-z]{2,3} \d{1,2}, \d{4}",
    ("date", "3. Oktober 1990"): r"\d{1,2}\. (?:[A-Z][a-z]+|März) \d{4}",
    ("year", "1971"): r"(?:19|20)\d\d",
    ("decade", "1980s"): r"(?:19|20)\d0s",
    ("phone", "+46 40 123 45 67"): r"\+46 \d\d \d{3} \d\d \d\d",
    ("phone", "(555) 013-7742"): r"\(\d{3}\) \d{3}-\d{4}",
    ("code", "HV-2291-K"): r"HV-\d{4}-[A-Z]",
    ("code", "912-44-7810"): r"9\d\d-\d\d-\d{4}",
    ("money", "€12,450.00"): r"€\d{1,2},\d{3}\.00",
    ("money", "3 250 kr"): r"\d \d{3} kr",
    ("email", "i.solheim84@post.test"): r"i\.[a-z]+\d\d@example\.(?:com|org|net)",
    ("url", "www.zawada.test"): r"www\.[a-z-]+\.example\.(?:com|org|net)",
    ("address", "19 Orchard Lane, Leeds LS6 3AB"): r"\d\d [\w'-]+ Lane, [A-Z][\w' -]+ LS\d \d[A-Z]{2}",
    ("address", "Storgatan 14, 211 42 Malmö"): r"\w+gatan \d\d, \d{3} \d\d [A-ZÅÄÖ]\w+",
    ("address", "4120 Juniper Street, Apt 9, Albany, NY 12203"): r"\d{4} [\w'-]+ Street, Apt \d, [\w' -]+, [A-Z]+ \d+",
    ("person", "Dr. Felix Maurer"): r"Dr\. [A-Z]\w+ [A-Z][\w'-]+",
    ("place", "Gdynia, Poland"): r"[A-Z][\w ]+, [A-Z][\w ]+",
    ("company", "Brightwater Logistics"): r"[A-Z][\w'-]+ Logistics",
    ("award", "Tolstoy Literary Award"): r"[A-Z]\w+ Literary Award",
    ("title", '"Le Petit Sultan."'): r'"[A-Z][\w ]+\."',
    ("blood group", "A+"): r"(?:A|B|AB|O)[+-]",
}  # fmt: skip


@pytest.mark.parametrize(("kind", "old"), FORMS)
def test_replacement_values_have_form_and_kind_of_the_original(kind: str, old: str) -> None:
    found = [generate_value(kind, old, Random(seed), Hints()) for seed in range(40)]
    assert all(new and re.fullmatch(FORMS[kind, old], new) for new in found), found
    assert old not in found
    assert len(set(found)) >= (4 if kind in ("award", "blood group", "decade") else 15)


def test_dates_exist_and_lie_in_the_past() -> None:
    for seed in range(200):
        assert date.fromisoformat(str(generate_value("date", "2000-02-29", Random(seed), Hints()))) < date(2026, 1, 1)


def test_dice_alone_decide() -> None:
    for kind, old in FORMS:
        assert generate_value(kind, old, Random(1), Hints()) == generate_value(kind, old, Random(1), Hints())


def test_amounts_stay_in_reach() -> None:
    for seed in range(100):
        amount = int(re.sub(r"\D", "", str(generate_value("money", "$68,500", Random(seed), Hints()))))
        assert 0.39 * 68_500 <= amount <= 2.51 * 68_500
        assert amount % 100 == 0


def test_names_keep_the_gender() -> None:
    def genders(name: str, hints: Hints) -> set[str | None]:
        return {
            first_names().get(str(generate_value("person", name, Random(i), hints)).split()[0].lower())
            for i in range(30)
        }

    assert genders("Hanna Lis", Hints(gender="male")) <= {"female", None}  # a name's own goes first
    assert genders("Dinesh Kavarana", Hints(gender="male")) <= {"male", None}
    assert genders("Dinesh Kavarana", Hints(genders={"Dinesh Kavarana": "female"})) <= {"female", None}


def test_words_of_the_question_stay_in_a_name() -> None:
    new = generate_value("person", "Karl Brook", Random(0), Hints(keep=frozenset({"brook"})))
    assert new and new.endswith(" Brook") and not new.startswith("Karl ")


@pytest.mark.parametrize(
    ("before", "word", "expected"),
    [
        ("works as an ", "welder", "works as a "),
        ("works as a ", "electrician", "works as an "),
        ("A ", "hour", "An "),
        ("an ", "university", "a "),
        ("a ", "M.A.", "an "),
        ("an ", "Mexican", "a "),
        ('a "', "Old Sea", 'an "'),
        ("born in ", "Oslo", "born in "),
    ],
)
def test_articles_follow_the_word(before: str, word: str, expected: str) -> None:
    assert fix_article(before + word, len(before), word) == expected


@pytest.mark.parametrize(
    ("old", "others"),
    [
        ("Bachelor's", {"Master's", "Doctorate"}),
        ("master’s", {"bachelor's", "doctorate"}),
        ("Ph.D.", {"B.A.", "M.A."}),
        ("Ph.D", {"B.A.", "M.A."}),
        ("MSc", {"BSc", "PhD"}),
        ("Doctor of Science", {"Bachelor of Science", "Master of Science"}),
    ],
)
def test_a_degree_becomes_one_of_another_level_in_its_form(old: str, others: set[str]) -> None:
    assert {generate_value("academic degree", old, Random(seed), Hints()) for seed in range(20)} == others


def test_gender_of_a_text() -> None:
    assert gender_of("She likes her cat.") == "female"
    assert gender_of("Mr. Brook sold it.") == "male"
    assert gender_of("He met her.") is None


def test_kinds_without_a_generator() -> None:
    assert generate_value("riddle", "x", Random(0), Hints()) is None


def test_made_values_are_found_as_their_kind_again() -> None:
    asked = "What is the phone number?"
    for kind, old in FORMS:
        if kind in ("email", "url", "phone", "money", "date", "address"):
            new = str(generate_value(kind, old, Random(3), Hints()))
            assert [span.kind for span in spans(new, asked)] == [kind], new
