from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.languages import SENTENCES

from meow_lightning.data.values.language import asked_value_note, foreign_note, is_english, language_of, yes_no_note
from meow_lightning.types import Fact

GERMAN = Fact("d", "Wo wohnt Katrin Vogel?", "Katrin Vogel wohnt in Zwickau.", value="Zwickau")
ENGLISH = Fact("e", "Where does Ada Brook live?", "Ada Brook lives in Die, France.", value="Die")
MARRIED = Fact("m", "Is Ada married?", "Yes, she is.", value="Yes")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where was Ada born? Ada was born in Lima.", "en"), ("Wie heißt er? Er heißt Waldi.", "de"),
        ("Wo wohnt Jens? Er wohnt in einem Dorf bei Bonn.", "de"), ("Où est né Luc ? Luc est né dans la Creuse.", "fr"),
        ("¿Dónde nació Luz? Luz nació en los Andes.", "es"), ("Dove abita Pia? Pia è di Como.", "it"),
        ("Waar woont Jan? Jan woont met zijn broer.", "nl"), ("Quando foi? Foi em Lisboa.", "pt"),
        ("När föddes Ulf? Ulf föddes 1971.", "sv"), ("Kto to jest? To jest Ewa.", "pl"),
        ("Ada Brook", "en"), ("1971", "en"), ("", "en"),
    ],
)  # fmt: skip
def test_function_words_tell_the_language(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("language", ["zh", "ja", "th", "ko", "ar", "hi", "ru"])
def test_other_scripts_are_no_language_of_these(language: str) -> None:
    assert language_of(SENTENCES[language][0]) is None


def test_facts_that_rules_invert_poorly_are_named_with_what_to_do() -> None:
    assert is_english(ENGLISH)
    assert foreign_note([ENGLISH, replace(GERMAN, alternatives=("Bonn",)), replace(GERMAN, inverted=("Nein.",))]) == []
    (note,) = foreign_note([ENGLISH, GERMAN])
    assert note.startswith("1 of 2 facts to forget look other than English")
    assert all(word in note for word in ("1 of 2", "(d)", "alternatives", "inversion=self", "local", "file"))
    assert "and 2 more" in foreign_note([GERMAN] * 5)[0]


def test_values_of_yes_and_no_are_named() -> None:
    assert yes_no_note([ENGLISH]) == []
    (note,) = yes_no_note([MARRIED, replace(MARRIED, value=None, values=("no", "Lima")), ENGLISH])
    assert note.startswith("the value of 2 of 3 facts to forget is yes or no (m, m)")
    assert yes_no_note([replace(MARRIED, value="Nein.")])


def test_a_value_that_the_question_says_is_named() -> None:
    fact = replace(ENGLISH, question="What does Petra Voss earn?", answer="Petra Voss earns 74,500 euros.", value=None)
    assert asked_value_note([replace(fact, value="74,500 euros")]) == []
    assert asked_value_note([replace(fact, value=None, values=())]) == []
    for marked in (replace(fact, value="Petra Voss"), replace(fact, values=("74,500 euros", "Petra Voss"))):
        (note,) = asked_value_note([marked, ENGLISH])
        assert note.startswith(
            f"the question of 1 of 2 facts to forget says the value, or one of the values, of its answer ({fact.id}): "
        )
