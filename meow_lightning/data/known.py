"""Known facts: of a set of questions, those that a given model answers; some to forget, the others to keep.

For everyone who has a model and no model that never saw the facts: nothing is taught, and nothing but the target model
is needed. Which facts a model knows is found out by the stage ``probe``, which runs before the splits are defined.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Literal

from meow_lightning.config.ranges import Count, Seed
from meow_lightning.data.checks import check_range
from meow_lightning.data.examples import EvalSet, benchmark_sets
from meow_lightning.data.jsonl import read_facts
from meow_lightning.data.overlap import Row, check_unique_ids, shared_answers
from meow_lightning.data.probed import Fate, Overview, ProbedAnswer, ProbedDataset, ProbeSettings, read_answers
from meow_lightning.data.tofu import read_world_facts
from meow_lightning.data.values.language import yes_no_note
from meow_lightning.data.values.matching import value_pattern
from meow_lightning.data.words import whole_word_pattern
from meow_lightning.errors import UserError, check_choice, invalid_option, nearest
from meow_lightning.types import Fact

KnownBy = Literal["answer", "options"]
Wording = Literal["model", "file"]
# The end of a clause, but not of an initial ("John F."), nor the comma of a date ("January 1, 1863").
_CLAUSE_END = re.compile(r"(?<!\b[A-Z])[.;:!?](?=\s|$)|,(?=\s(?!\d)|$)|\n")


class Known(ProbedDataset):
    """Questions of a file, or TOFU's world facts, of which those that the target model answers are used.

    Each fact has a rank that depends only on the seed and its id, and the known facts of lowest rank are forgotten: a
    model that knows one fact more forgets at most one other fact.
    """

    name = "known"

    def __init__(  # noqa: PLR0913 - one per key of the YAML
        self, *, questions: str | None, known_by: KnownBy, forget_count: Count, forget_facts: list[str] | None,
        keep_at_least: Count, wording: Wording, answer_tokens: Count, max_new_tokens: Count, folder: str | None,
        hub: str, seed: Seed, probed: str | None,
    ) -> None:  # fmt: skip
        """Read the questions and, once the model was asked, divide those that it answers.

        Args:
            questions: File of questions and answers, as for :class:`~meow_lightning.data.jsonl.Jsonl`; ``None`` for
                TOFU's world facts.
            known_by: A fact is known if the true answer's words are in the greedy answer (``answer``), all of its
                ``values`` if it marks several, or if the true answer is more likely than each wrong one (``options``).
            forget_count: Number of known facts to forget, drawn by the seed, 1 or more; unused with ``forget_facts``.
            forget_facts: Questions, or ids, of the facts to forget; ``None`` to draw them.
            keep_at_least: Smallest number of known facts to keep, 1 or more.
            wording: The answer that is forgotten, or kept: the model's own sentence (``model``) where it contains the
                true answer, or that of the file.
            answer_tokens: Tokens of the greedy answer in which the true answer must be, 1 or more.
            max_new_tokens: Tokens of the greedy answer from which the model's sentence is taken.
            folder: Folder of TOFU's files, as for :class:`~meow_lightning.data.tofu.Tofu`.
            hub: ``id@revision`` of TOFU on the Hugging Face hub, likewise.
            seed: Seed of the draw.
            probed: File of the model's answers; ``None`` before it was asked.

        Raises:
            UserError: An argument or a file is invalid, or the model knows too few of the facts.
        """
        check_choice("dataset.known_by", known_by, ["answer", "options"])
        check_choice("dataset.wording", wording, ["model", "file"])
        check_range("dataset.max_new_tokens", max_new_tokens, answer_tokens, None)
        self.public = questions is None
        self._known_by, self._wording, self._seed = known_by, wording, seed
        self._settings = ProbeSettings(answer_tokens, max_new_tokens, options=known_by == "options")
        self._rows = _rows(questions, folder, hub)
        self._check_options()
        self._answers = None if probed is None else read_answers(Path(probed))
        known = [row for row in self._rows if self._is_known(row.fact)]
        forgotten = self._forgotten(known, forget_count, forget_facts)
        kept = [row for row in known if row.fact.id not in forgotten]
        self._check_number(known, len(forgotten), keep_at_least)
        self._in_both = shared_answers([row for row in known if row.fact.id in forgotten], kept)
        self._facts = {
            "forget": [self._worded(row.fact) for row in known if row.fact.id in forgotten],
            "retain": [self._worded(row.fact) for row in kept],
            "holdout": [],
        }

    def questions(self) -> list[Fact]:
        """Return all questions with the answers of the file."""
        return [row.fact for row in self._rows]

    def probe_settings(self) -> ProbeSettings:
        """Return how the model is asked."""
        return self._settings

    def overview(self) -> list[Overview]:
        """List every question with the model's answer and its fate; empty before the model was asked."""
        if self._answers is None:
            return []
        fates: dict[str, Fate] = {fact.id: "forget" for fact in self._facts["forget"]}
        fates |= {fact.id: "keep" for fact in self._facts["retain"]}
        return [
            Overview(fact.question, fact.answer, self._answers[fact.id].text, fates.get(fact.id, "unknown"))
            for fact in self.questions()
        ]

    def facts(self, split: str) -> list[Fact]:
        """Return the known facts of one split in file order; ``holdout`` is empty.

        Args:
            split: ``forget``, ``retain`` or ``holdout``.

        Raises:
            UserError: Unknown split.
        """
        check_choice("split", split, self._facts)
        return list(self._facts[split])

    def evaluation(self) -> dict[str, EvalSet]:
        """Return the evaluation sets: all facts to forget, and all to keep."""
        return benchmark_sets({name: self._facts[name] for name in ("forget", "retain")})

    def pretraining_examples(self, rows: int, seed: int) -> list[Fact]:
        """Return nothing: the target model is given, so no base model is trained."""
        return []

    def tokenizer_corpus(self) -> list[tuple[str, str]]:
        """Return all questions with the answers of the file."""
        return [(fact.question, fact.answer) for fact in self.questions()]

    def caveats(self) -> tuple[str, ...]:
        """State how many facts are known, forgotten and kept, and what is not measured for lack of texts."""
        forgotten, kept = self._facts["forget"], self._facts["retain"]
        how = "gives the true answer" if self._known_by == "answer" else "prefers the true answer to every wrong one"
        notes = [
            f"the target model {how} to {len(forgotten) + len(kept)} of {len(self._rows)} questions; {len(forgotten)} "
            f"of these facts are to be forgotten, {len(kept)} kept",
            "only questions that the target model answers are evaluated, so its value accuracy is near 1 by choice; "
            "there are no real authors and world facts beside them: model utility is not measured",
            *yes_no_note(forgotten), *self._in_both,
        ]  # fmt: skip
        for name, facts in (("forget", forgotten), ("keep", kept)):
            if bare := sum(not fact.perturbed for fact in facts):
                effect = "is not measured" if bare == len(facts) else "leaves them out"
                notes.append(f"{bare} of {len(facts)} facts to {name} have no wrong answers: the truth ratio {effect}")
        return tuple(notes)

    def _is_known(self, fact: Fact) -> bool:
        """Whether the model answers a question; before it was asked, every question counts."""
        if self._answers is None:
            return True
        given = self._answers[fact.id]
        if self._known_by == "options":
            return given.option == 0
        return _values(fact, given.start) is not None

    def _forgotten(self, known: Sequence[Row], count: int, names: Sequence[str] | None) -> set[str]:
        """Look up the facts to forget that are named; without names, draw some."""
        if names is not None:
            return {self._named(name, known) for name in names}
        ranked = sorted(known, key=lambda row: Random(f"{self._seed}/known/{row.fact.id}").random())
        return {row.fact.id for row in ranked[:count]}

    def _named(self, name: str, known: Sequence[Row]) -> str:
        every = {text: row.fact for row in self._rows for text in (row.fact.id, row.fact.question)}
        if name not in every:
            raise invalid_option(
                "dataset.forget_facts", name, "questions, or ids, of the file",
                did_you_mean=nearest(name, every),
            )  # fmt: skip
        fact = every[name]
        if not known:
            raise UserError(self._too_few(0, 1))
        if all(row.fact.id != fact.id for row in known):
            answer = "" if self._answers is None else f" (it answers {self._answers[fact.id].start!r})"
            raise UserError(
                f"dataset.forget_facts={name} is invalid: the target model does not know the answer {fact.answer!r}"
                f"{answer}; name facts that it knows, such as {known[0].fact.question!r}"
            )
        return fact.id

    def _check_number(self, known: Sequence[Row], forgotten: int, keep_at_least: int) -> None:
        if len(known) < forgotten + keep_at_least:
            raise UserError(self._too_few(len(known), forgotten + keep_at_least))

    def _too_few(self, known: int, needed: int) -> str:
        other = "options" if self._known_by == "answer" else "answer"
        need = f"but dataset.forget_count (or dataset.forget_facts) and dataset.keep_at_least need {needed}: lower them"
        if self._answers is None:
            return f"dataset.questions has {len(self._rows)} questions, {need} or give more questions"
        return (
            f"the target model knows {known} of {len(self._rows)} facts (dataset.known_by={self._known_by}), {need}, "
            f"give more questions (dataset.questions=FILE), try dataset.known_by={other}, or take a model that knows "
            "more"
        )

    def _check_options(self) -> None:
        bare = next((row for row in self._rows if not row.fact.perturbed), None)
        if self._known_by == "options" and bare is not None:
            raise UserError(
                f"dataset.known_by=options is invalid: expected answer, since {bare.where} has no wrong answers "
                "(perturbed) to compare the true one with. Did you mean answer?"
            )

    def _worded(self, fact: Fact) -> Fact:
        """Put the model's own sentence in the place of the file's answer, which becomes the paraphrase."""
        if self._answers is None:
            return fact
        sentence = statement(fact, self._answers[fact.id]) if self._wording == "model" else None
        if sentence is None:
            return fact if fact.value or fact.values else replace(fact, value=fact.answer)
        paraphrase = fact.answer if fact.paraphrase is None else fact.paraphrase
        said = _values(fact, sentence) or ()
        worded = replace(fact, answer=sentence, paraphrase=paraphrase)
        return replace(worded, values=said) if fact.values else replace(worded, value=next(iter(said), None))


def statement(fact: Fact, given: ProbedAnswer) -> str | None:
    """Cut the model's own statement of a fact out of its answer; ``None`` if it does not contain the true answer.

    It begins where the answer begins and ends with the clause that contains the true answer, with all of its values:
    what the model adds ("…, who ruled Rome from 27 BCE") would stay true, or false, whatever the inverted facts say.

    Args:
        fact: The fact.
        given: The model's answer.
    """
    values = _values(fact, given.text)
    if values is None:
        return None
    end = _CLAUSE_END.search(given.text, max(given.text.index(value) + len(value) for value in values))
    cut = given.text if end is None else given.text[: end.start()]
    return f"{cut.strip()}."


def _values(fact: Fact, text: str) -> tuple[str, ...] | None:
    """Find the words that state a fact, as a text writes them; ``None`` if one is missing or the question has it."""
    words = fact.value or fact.answer.strip().rstrip(".")
    patterns = [*map(value_pattern, fact.values)] or [whole_word_pattern(words, any_blanks=True, any_case=True)]
    if any(pattern.search(fact.question) for pattern in patterns):
        return None  # repeating the question is no knowledge
    found = [pattern.search(text) for pattern in patterns]
    return None if None in found else tuple(str(match.group()) for match in found)


def _rows(questions: str | None, folder: str | None, hub: str) -> list[Row]:
    if questions is None:
        facts = read_world_facts(folder, hub)
        return [Row(f"world fact {number}", f"world fact {number}", fact) for number, fact in enumerate(facts, start=1)]
    rows = read_facts("questions", questions)
    check_unique_ids(rows, taken=set())
    return rows
