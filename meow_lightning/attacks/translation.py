"""The question in another language, from a file of translations or as a language model translates it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from meow_lightning.attacks.base import PromptAttack, gives_away, with_question
from meow_lightning.data.examples import Dataset, Example, is_passage
from meow_lightning.data.jsonl_reader import read_entries
from meow_lightning.errors import UserError, invalid_option, shorten_list

TRANSLATION = "{translation}"


class Translation(PromptAttack):
    """Ask in another language, as a file or a language model says it; a question without a translation is left out.

    Forgetting taught in one language need not hold in another. The answer may come in that language too, so read
    ``value_accuracy``, which counts names, numbers and dates in figures: what is spelled alike in both languages. It
    is a lower bound, since a value that is translated too (a country, a profession, a month) does not count. Numbers
    that compare whole answers with the English truth (ROUGE, probability, truth ratio, MEMO) mix forgetting with the
    change of language, unless the model is told to answer in English (``template``).

    What can be concluded: a value that the unlearned model gives more often than the retain model was not forgotten.
    What cannot: that few values mean forgetting, unless the target model, asked alike, gives many; a model that does
    not understand the language says nothing in it.

    Args:
        path: JSON lines with ``question``, as the dataset has it, and ``translation``. Several lines of a question are
            several ways to ask, of which the best for an attacker counts. ``None`` if a language model translates.
        template: Text with ``{translation}`` once.

    Raises:
        UserError: The template has no place for the translation.
    """

    fields: ClassVar[tuple[str, ...]] = ("value", "values")
    needs: ClassVar[str] = "questions, not passages of documents"
    version: ClassVar[int] = 2

    translates: ClassVar[bool] = True

    def __init__(self, *, path: str | None, template: str) -> None:
        if template.count(TRANSLATION) != 1:
            raise invalid_option("attacks.template", repr(template), f"a text with {TRANSLATION} exactly once")
        self.path, self.template = None if path is None else Path(path), template

    def rows(self, dataset: Dataset, seed: int) -> list[Example]:
        """Read the translations: every fact of the dataset that has some, once for each, asked that way.

        Raises:
            UserError: There is no file, or it cannot be read, translates no question of the dataset or not every one
                to forget, or gives the value of one away.
        """
        if self.path is None:
            raise invalid_option(
                "attacks.path", "null",
                "a file of translations, or a model that translates: translator@attacks.translation.translator=local",
            )  # fmt: skip
        known = _translations(self.path)
        examples = questions_of(dataset)
        pairs = [(each, text) for each in examples for text in known.get(each.question, ())]
        forget = [each for each in dataset.facts("forget") if not is_passage(each)]
        missing = [each.question for each in forget if each.question not in known]
        if missing:
            raise UserError(
                f"attacks.path={self.path} translates {len(forget) - len(missing)} of the {len(forget)} questions to "
                f"forget; missing: {shorten_list([*map(repr, missing)], most=3)}; add a line for each, with the "
                "question as the dataset spells it"
            )
        told = [each.question for each, text in pairs if gives_away(text, each)]
        if told:
            raise UserError(
                f"attacks.path={self.path}: {len(told)} translations give the value of the answer away, which the "
                f"question does not: {shorten_list([*map(repr, told)], most=3)}; correct them"
            )
        return [with_question(each, text) for each, text in pairs]

    def written_rows(self, dataset: Dataset, texts: Mapping[str, Sequence[str]]) -> list[Example]:
        """Return every fact of the dataset that has translations, once for each, asked that way.

        Args:
            dataset: The dataset of the run.
            texts: The translations, by identifier of the fact.
        """
        return [with_question(each, text) for each in questions_of(dataset) for text in texts.get(each.id, ())]

    def transform_example(self, example: Example, rows: Sequence[Example]) -> list[Example]:
        """Put each translation in the place of the question."""
        own = [] if is_passage(example) else [row.question for row in rows if row.id == example.id]
        return [with_question(example, self.template.replace(TRANSLATION, text)) for text in dict.fromkeys(own)]


def questions_of(dataset: Dataset) -> list[Example]:
    """List the questions of the dataset, each once: to forget, to keep, and of every evaluation set."""
    sets = [dataset.facts("forget"), dataset.facts("retain"), *dataset.evaluation().values()]
    return [*{each.id: each for examples in sets for each in examples if not is_passage(each)}.values()]


def _translations(path: Path) -> dict[str, list[str]]:
    """Read the translations of each question."""
    option, holds = "attacks.path", "a question and its translation"
    found: dict[str, list[str]] = {}
    for number, entry in read_entries(path, option=option, holds=holds):
        for name in ("question", "translation"):
            if not isinstance(entry.get(name), str) or not entry[name].strip():
                raise UserError(
                    f'{option}={path}, entry {number}: {name} is missing or not a text; write {{"question": "…", '
                    '"translation": "…"}'
                )
        found.setdefault(entry["question"], []).append(entry["translation"])
    return found
