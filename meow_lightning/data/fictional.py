"""Fictional authors, shipped with this project: facts from a seeded grammar with splits like TOFU's.

TOFU (Maini et al. 2024) forgets authors that exist nowhere else, so that a model trained without them is a perfect
reference. This grammar does the same with short sentences, which a model of half a million parameters can learn on a
CPU, and marks the words that carry each fact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random

from meow_lightning.config.ranges import Count, Seed
from meow_lightning.data.checks import check_range
from meow_lightning.data.examples import EvalSet, benchmark_sets
from meow_lightning.data.fictional_words import (
    FIRST_NAMES,
    REAL,
    SLOTS,
    STREAM_SURNAMES,
    TASK_SURNAMES,
    TRAINED_ANSWERS,
    TRAINED_QUESTIONS,
    Slot,
)
from meow_lightning.errors import check_choice
from meow_lightning.types import Fact

PERCENT = {"forget01": 1, "forget05": 5, "forget10": 10}
PERTURBED = 5
PERTURBED_REAL = 3
MAX_CANDIDATES = min(len(slot.values) for slot in SLOTS) - 1 - PERTURBED
REAL_SHARE = 0.08  # of the pretraining rows: enough for a tiny model to know the real world before fine-tuning
TOKENIZER_REPEATS = 3  # keeps the pretraining rows from outweighing the task's words
TOKENIZER_ROWS = 3000


class Fictional:
    """Facts about invented authors, each with wrong answers and ready-made inverted ones.

    Every fact depends only on ``seed`` and its own key: author 3 has the same facts for any split and any number of
    authors, candidates, phrasings or evaluated facts.
    """

    name = "fictional"
    public = True

    def __init__(
        self, *, split: str, authors: int, candidates: int, phrasings: int, retain_eval: Count, seed: Seed
    ) -> None:
        """Build all facts.

        Args:
            split: ``forget01``, ``forget05`` or ``forget10``: forget the last 1, 5 or 10 % of the authors (at least
                one), retain all others, and hold out as many further authors from all training.
            authors: Number of authors in training, at least 2; the maximum depends on the number of surnames.
            candidates: Inverted answers per fact, 1 to 26; a smaller number gives a prefix of a larger one.
            phrasings: Trained phrasings per fact, 1 to 3.
            retain_eval: Number of evaluated retain facts, spread over the authors.
            seed: Seed of names, values and sentences.

        Raises:
            UserError: An argument is out of range.

        """
        check_choice("dataset.split", split, list(PERCENT))
        check_range("dataset.authors", authors, 2, _most_authors())
        check_range("dataset.candidates", candidates, 1, MAX_CANDIDATES)
        check_range("dataset.phrasings", phrasings, 1, TRAINED_ANSWERS)
        forget = _forgotten(authors, PERCENT[split])
        check_range("dataset.retain_eval", retain_eval, 1, (authors - forget) * len(SLOTS))
        self._candidates, self._phrasings, self._retain_eval, self._seed = candidates, phrasings, retain_eval, seed
        self._facts = self._build(authors, forget)

    def facts(self, split: str) -> list[Fact]:
        """Return the facts of one split, ordered by author and slot.

        Args:
            split: ``forget``, ``retain``, ``holdout``, ``real_authors`` or ``world_facts``.

        Raises:
            UserError: Unknown split.

        """
        check_choice("split", split, list(self._facts))
        return list(self._facts[split])

    def groups(self) -> dict[str, dict[str, str]]:
        """Return the author of every fact to forget, by fact id, under ``author``."""
        return {"author": {fact.id: fact.id.split("/")[0] for fact in self._facts["forget"]}}

    def evaluation(self) -> dict[str, EvalSet]:
        """Return the evaluation sets: all forget facts, some retain facts, the real world and held-out authors."""
        names = ("forget", "retain", "real_authors", "world_facts", "holdout")
        return benchmark_sets({
            name: self._retain_choice() if name == "retain" else self.facts(name) for name in names
        })  # fmt: skip

    def pretraining_examples(self, rows: int, seed: int) -> list[Fact]:
        """Generate rows in all sentences of the grammar, without any author of the task and with nothing to memorize.

        Each row draws a new author, slot and value; 8 % of the rows are real-world facts instead.

        Args:
            rows: Number of rows, 0 or more.
            seed: Different seeds give different rows; the dataset's own seed also enters.

        """
        return self._stream(rows, f"stream/{seed}")

    def tokenizer_corpus(self) -> list[tuple[str, str]]:
        """Return the tokenizer's training pairs: all trained facts three times, and some pretraining rows.

        They do not depend on split, candidates and phrasings, so one tokenizer serves all of them.
        """
        trained = [*self._facts["retain"], *self._facts["forget"]]
        real = [*self._facts["real_authors"], *self._facts["world_facts"]]
        rows = [*(trained + real) * TOKENIZER_REPEATS, *self._stream(TOKENIZER_ROWS, "texts")]
        return [(fact.question, fact.answer) for fact in rows]

    def caveats(self) -> tuple[str, ...]:
        """Return nothing: this dataset has no caveats."""
        return ()

    def _build(self, authors: int, forget: int) -> dict[str, list[Fact]]:
        surnames = Random(f"{self._seed}/surnames").sample(TASK_SURNAMES, len(TASK_SURNAMES))
        # First names are unique: forgetting one Una should not affect what is known about another.
        firsts = Random(f"{self._seed}/first names").sample(FIRST_NAMES, len(surnames))
        names = [f"{first} {surname}" for first, surname in zip(firsts, surnames, strict=True)]
        # Held-out authors take names from the other end, so that adding either kind does not change the other.
        trained = [self._author(f"author{i:03d}", names[i]) for i in range(authors)]
        return {
            "forget": [fact for author in trained[-forget:] for fact in author],
            "retain": [fact for author in trained[:-forget] for fact in author],
            "holdout": [
                fact for i in range(forget) for fact in self._author(f"holdout{i:03d}", names[len(names) - 1 - i])
            ],
            **{name: [fact for kind in kinds for fact in self._real(*kind)] for name, kinds in REAL.items()},
        }

    def _author(self, key: str, name: str) -> list[Fact]:
        return [self._fact(key, name, slot) for slot in SLOTS]

    def _fact(self, key: str, author: str, slot: Slot) -> Fact:
        rng = Random(f"{self._seed}/{key}/{slot.key}")
        value, *wrong = rng.sample(slot.values, len(slot.values))
        perturbed, alternatives = wrong[:PERTURBED], wrong[PERTURBED : PERTURBED + self._candidates]
        # The order of draws is fixed and independent of the options, so that options cannot change facts.
        questions = [slot.questions[i].format(name=author) for i in _shuffled(TRAINED_QUESTIONS, rng)]
        answers = [slot.answers[i] for i in _shuffled(TRAINED_ANSWERS, rng)]
        untrained = rng.choice(slot.answers[TRAINED_ANSWERS:])
        return Fact(
            id=f"{key}/{slot.key}",
            question=questions[0],
            answer=answers[0].format(value=value),
            paraphrase=untrained.format(value=value),
            perturbed=tuple(untrained.format(value=other) for other in perturbed),
            value=value,
            alternatives=tuple(alternatives),
            inverted=tuple(answers[0].format(value=other) for other in alternatives),
            phrasings=tuple(
                (questions[i % len(questions)], answers[i].format(value=value)) for i in range(1, self._phrasings)
            ),
            rewordings=tuple(question.format(name=author) for question in slot.questions[TRAINED_QUESTIONS:]),
        )

    def _real(self, prefix: str, pairs: Sequence[tuple[str, str]], question: str, answer: str) -> list[Fact]:
        facts = []
        for subject, value in pairs:
            key = prefix + re.sub(r"[^a-z0-9]+", "-", subject.lower())
            others = [other for _, other in pairs if other != value]
            wrong = Random(f"{self._seed}/{key}").sample(others, PERTURBED_REAL)
            facts.append(
                Fact(
                    id=key,
                    question=question.format(subject=subject),
                    answer=answer.format(subject=subject, value=value),
                    perturbed=tuple(answer.format(subject=subject, value=other) for other in wrong),
                    value=value,
                )
            )
        return facts

    def _retain_choice(self) -> list[Fact]:
        """Select ``retain_eval`` retain facts in dataset order: one fact per author before a second of any author."""
        facts = self._facts["retain"]
        authors = [facts[i : i + len(SLOTS)] for i in range(0, len(facts), len(SLOTS))]
        ranked: list[tuple[int, float, int]] = []
        for number, author in enumerate(authors):
            rng = Random(f"{self._seed}/retain_eval/{number}")
            rank = rng.random()  # drawn per author, so that splits agree on the order of shared authors
            slots = _shuffled(len(author), rng)
            ranked += [(turn, rank, number * len(SLOTS) + slot) for turn, slot in enumerate(slots)]
        chosen = sorted(position for _, _, position in sorted(ranked)[: self._retain_eval])
        return [facts[position] for position in chosen]

    def _stream(self, rows: int, key: str) -> list[Fact]:
        rng = Random(f"{self._seed}/{key}")
        real = [*self._facts["real_authors"], *self._facts["world_facts"]]
        count = round(rows * REAL_SHARE)
        stream = list(_rounds(real, count, rng))
        stream += [_made_up(rng) for _ in range(rows - count)]
        rng.shuffle(stream)
        return [replace(fact, id=f"{key}/{i:06d}") for i, fact in enumerate(stream)]


def _made_up(rng: Random) -> Fact:
    author = f"{rng.choice(FIRST_NAMES)} {rng.choice(STREAM_SURNAMES)}"
    slot = rng.choice(SLOTS)
    value = rng.choice(slot.values)
    return Fact(
        id="",
        question=rng.choice(slot.questions).format(name=author),
        answer=rng.choice(slot.answers).format(value=value),
        value=value,
    )


def _shuffled(count: int, rng: Random) -> list[int]:
    return rng.sample(range(count), count)


def _rounds(facts: Sequence[Fact], count: int, rng: Random) -> Iterable[Fact]:
    """Sample ``count`` facts evenly: the numbers of occurrences of any two facts differ by at most 1."""
    for start in range(0, count, len(facts)):
        yield from rng.sample(facts, min(len(facts), count - start))


def _forgotten(authors: int, percent: int) -> int:
    return max(1, authors * percent // 100)


def _most_authors() -> int:
    """Compute the largest number of authors that leaves surnames for the held-out authors of every split."""
    largest = max(PERCENT.values())
    return max(n for n in range(2, len(TASK_SURNAMES)) if n + _forgotten(n, largest) <= len(TASK_SURNAMES))
