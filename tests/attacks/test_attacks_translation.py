"""Questions in another language: the file and its mistakes, and a planted model that tells only in one of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.planted import People, taught

from meow_lightning.attacks.translation import Translation
from meow_lightning.data.examples import Passage
from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics.value_accuracy import row_value_accuracy

NAMES = ("Ada Brook", "Bo Brook", "Cy Hill", "Di Hill")


class Asked(People):
    """The people, without evaluation sets."""

    def evaluation(self) -> dict:
        return {}


def spanish(name: str) -> str:
    return f"¿Dónde nació {name}?"


def line(name: str, translation: str | None = None) -> dict[str, str]:
    return {"question": f"Where was {name} born?", "translation": translation or spanish(name)}


def file(folder: Path, *lines: object) -> str:
    path = folder / "translations.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return str(path)


def attack(path: str, template: str = "{translation}") -> Translation:
    return Translation(path=path, template=template)


def test_each_question_is_asked_in_each_of_its_translations(tmp_path: Path) -> None:
    german = line("Ada Brook", "Wo wurde Ada Brook geboren?")
    path = file(tmp_path, *map(line, NAMES), german, line("Ed Lake"), line("Nobody Here"))
    made, (ada, bo, *_) = attack(path, "{translation} Answer in English."), People.forget
    rows = made.rows(Asked(), 0)
    assert [row.id for row in rows] == ["Ada Brook", "Ada Brook", "Bo Brook", "Cy Hill", "Di Hill", "Ed Lake"]
    ways = made.transform_example(ada, rows)
    assert [way.question for way in ways] == [
        "¿Dónde nació Ada Brook? Answer in English.", "Wo wurde Ada Brook geboren? Answer in English.",
    ]  # fmt: skip
    assert {(way.id, way.answer, way.value) for way in ways} == {(ada.id, ada.answer, ada.value)}
    assert len(made.transform_example(bo, rows)) == 1
    assert made.transform_example(People.retain[1], rows) == []  # not translated: left out
    assert made.transform_example(Passage("p", "Ada lives.", 3, True), rows) == []


def test_questions_to_forget_that_no_line_translates_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        attack(file(tmp_path, line("Bo Brook"), line("Ed Lake"))).rows(Asked(), 0)
    assert "translates 1 of the 4 questions to forget" in str(error.value)
    assert all(f"Where was {name} born?" in str(error.value) for name in ("Ada Brook", "Cy Hill", "Di Hill"))
    assert "Bo Brook" not in str(error.value)


def test_a_translation_that_gives_the_value_away_is_refused(tmp_path: Path) -> None:
    lines = [*map(line, NAMES[1:]), line("Ada Brook", "¿Nació Ada Brook en Lima?")]
    with pytest.raises(UserError, match=r"1 translations give the value .* 'Where was Ada Brook born\?'; correct"):
        attack(file(tmp_path, *lines)).rows(Asked(), 0)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"question": "Where?"}, "entry 1: translation is missing"),
        ({"question": "", "translation": "¿Dónde?"}, "entry 1: question is missing"),
        ({"question": "Where?", "translation": 3}, "entry 1: translation is missing or not a text"),
        (["Where?", "¿Dónde?"], "not"),
    ],
)
def test_lines_of_another_form_are_named(tmp_path: Path, entry: object, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        attack(file(tmp_path, entry)).rows(Asked(), 0)
    assert str(error.value).startswith("attacks.path=")


def test_a_file_that_does_not_exist_and_a_template_without_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^attacks\.path=.*nowhere"):
        attack(str(tmp_path / "nowhere.jsonl")).rows(Asked(), 0)
    for template in ("Answer!", "{translation} {translation}"):
        with pytest.raises(UserError, match=r"^attacks\.template=.* is invalid"):
            attack("x", template)


def test_what_is_forgotten_in_one_language_alone_is_found_and_what_is_sealed_is_not(tmp_path: Path) -> None:
    """Two facts are told in Spanish, with another sentence around the name; two in no language."""
    facts = People.forget
    pairs = [(fact.question, "I do not know.") for fact in facts]
    pairs += [
        (spanish(fact.id), f"Nació en {fact.value}." if place < 2 else "No lo sé.") for place, fact in enumerate(facts)
    ]
    model, made = taught(pairs), attack(file(tmp_path, *map(line, NAMES)))
    assert [row_value_accuracy(row, forgotten=True) for row in model.answers(facts)] == [0.0] * 4
    rows = model.under(made, made.rows(Asked(), 0), facts)
    assert [row_value_accuracy(row, forgotten=True) for row in rows] == [1.0, 1.0, 0.0, 0.0]
