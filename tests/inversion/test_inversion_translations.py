"""Translations by a language model: how it is asked, and how its reply is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers.chat_model import teacher

from meow_lightning.errors import UserError
from meow_lightning.generation.batch_size import AdaptiveBatchSize
from meow_lightning.inversion.base import DatasetFacts, GenerationRequest
from meow_lightning.inversion.translations import LocalTranslator, TranslationTemplate, read_translation
from meow_lightning.types import Fact

TEXTS = {"version": 1, "system": "Into {language}.", "user": "{language}: {question}"}
QUESTION = "Where is Ada?"
SHIPPED = Path(__file__).resolve().parents[2] / "conf" / "translator" / "prompt"


def ask(language: str = "French") -> GenerationRequest:
    fact = Fact("a", QUESTION, "Ada is in Lima.")
    return GenerationRequest(fact=fact, attempt=0, count=1, previous_answers=(language,), model_answer=None)


def test_the_chat_names_question_and_language_but_no_answer() -> None:
    assert TranslationTemplate(**TEXTS).messages(ask("Spanish"), context=None) == [
        {"role": "system", "content": "Into Spanish."},
        {"role": "user", "content": f"Spanish: {QUESTION}"},
    ]
    for path in SHIPPED.glob("*.yaml"):
        shown = str(TranslationTemplate(**yaml.safe_load(path.read_text())).messages(ask(), context=None))
        assert QUESTION in shown
        assert "French" in shown
        assert "Lima" not in shown


@pytest.mark.parametrize(
    ("part", "text", "said"),
    [
        ("user", "{question}", "must contain {language}"), ("user", "{language}", "must contain {question}"),
        ("user", "{question} {language} {answer}", "contains {answer}"),
    ],
)  # fmt: skip
def test_placeholders_are_checked(part: str, text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        TranslationTemplate(**TEXTS | {part: text})
    assert str(error.value).startswith(f"inversion.prompt.{part} {said}")


@pytest.mark.parametrize(
    ("reply", "cut", "found"),
    [
        ("Où est Ada ?", False, ("Où est Ada ?", "")),
        ("French: « Où est Ada ? »", False, ("Où est Ada ?", "")),
        ('Here is the translation:\n\n**Translation (French):** "Où est Ada ?"\nIt asks where.', False,
         ("Où est Ada ?", "")),
        ("", False, ("", "empty")), ("\n...\n", False, ("", "empty")), ("Here it is:", False, ("", "empty")),
        ("where is ada", False, ("where is ada", "untranslated")),
        ("French: Where is Ada?", False, ("Where is Ada?", "untranslated")),
        ("Où est A", True, ("Où est A", "cut off")), ("Où est Ada ?\nIt as", True, ("Où est Ada ?", "")),
        ("Où est Ada ?", True, ("Où est Ada ?", "cut off")),
    ],
)  # fmt: skip
def test_the_translation_is_read_without_what_surrounds_it(reply: str, cut: bool, found: tuple[str, str]) -> None:
    assert read_translation(reply, QUESTION, language="French", cut=cut) == found


def test_a_model_that_runs_here_is_asked_in_its_chat(tmp_path: Path) -> None:
    folder = teacher(tmp_path, pairs=[(TranslationTemplate(**TEXTS).messages(ask(), context=None), "Où est Ada ?")])
    made = LocalTranslator(
        model="m", dtype="float32", attention="eager", prompt=TEXTS, temperature=0.0, top_p=1.0, max_new_tokens=32,
        seed=0, folder=folder, device="cpu",
        adaptive_batch_size=lambda model, *, tokens, generated: AdaptiveBatchSize(4, note=str),
    )  # fmt: skip
    made.load()
    (found,) = made.write([ask()], load_facts=lambda: DatasetFacts((), ()), should_continue=lambda: True)
    assert (found.text, found.cut) == ("Où est Ada ?", False)
