"""User-provided facts: a file of facts to forget and, optionally, a file of facts to retain."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from meow_lightning.config.ranges import Count, CountOrZero, Seed
from meow_lightning.data.checks import check_range
from meow_lightning.data.examples import EvalSet, benchmark_sets
from meow_lightning.data.fictional import Fictional
from meow_lightning.data.jsonl_reader import is_list, read_entries
from meow_lightning.data.overlap import Row, check_disjoint, check_unique_ids, question_of, shared_answers
from meow_lightning.data.perturbation import Contradictions, normalize, wrong_answers
from meow_lightning.data.words import whole_word_pattern
from meow_lightning.errors import UserError, check_choice, nearest
from meow_lightning.types import Fact

TOKENIZER_REPEATS = 3  # keeps the pretraining rows from outweighing the user's words
ALIASES = {"undesired_answer": "answer", "paraphrased_answer": "paraphrase", "perturbed_answer": "perturbed"}
KEYS = (
    "question", "answer", "id", "paraphrase", "perturbed", "inverted", "value", "alternatives", *ALIASES, "answer_0"
)  # fmt: skip
# Names of question and answer in other formats.
SYNONYMS = {
    "question": ("prompt", "instruction", "query", "input", "problem", "human", "user"),
    "answer": ("text", "response", "completion", "output", "target", "reply", "solution", "assistant", "gpt"),
}
TURNS = ("messages", "conversation", "conversations", "dialog", "dialogue", "turns")  # keys of chat transcripts
LONGEST = 20_000  # characters per text: processing time grows quadratically, and a fact is a single statement
_NUMBERED = re.compile(r"answer_(\d+)", re.ASCII)
_IGNORED = re.compile(r".*_rouge1|paraphrased_question", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_HOLDS = "question and answer"


class Jsonl:
    """User-provided facts, optionally with the shipped real-world facts.

    Each entry of a file has ``question`` and ``answer`` and may have ``id``, ``paraphrase`` (or TOFU's
    ``paraphrased_answer``), ``perturbed`` (or ``perturbed_answer``), ``inverted`` (or ``answer_0``, ``answer_1`` … as
    in MEOW's published files, whose ``undesired_answer`` is the answer), ``value`` and ``alternatives``, all as in
    :class:`~meow_lightning.types.Fact`. MEMO scores (``…_rouge1``) and ``paraphrased_question`` are ignored.
    """

    name = "jsonl"
    public = False

    def __init__(
        self, *, forget: str, retain: str | None, real_world: bool, perturb: CountOrZero, retain_eval: Count, seed: Seed
    ) -> None:
        """Read and check both files, and generate missing wrong answers.

        Args:
            forget: File of the facts to forget: JSON lines or one JSON list, UTF-8.
            retain: File of the facts to retain, in the same format, or ``None``.
            real_world: Whether to evaluate the shipped facts about real authors and the world.
            perturb: Maximum number of rule-based wrong answers per evaluated fact without any; 0 for none.
            retain_eval: Maximum number of evaluated retain facts, 1 or more.
            seed: Seed of the evaluated facts, the wrong answers and the pretraining rows.

        Raises:
            UserError: An argument is out of range, a file or entry is malformed, or a question, an id or a fact is
                duplicated.

        """
        check_range("dataset.perturb", perturb, 0, None)
        check_range("dataset.retain_eval", retain_eval, 1, None)
        self._perturb, self._seed, self._real_world = perturb, seed, real_world
        # Minimal: only its pretraining rows and real-world facts are used, which do not depend on the authors.
        self._language = Fictional(split="forget01", authors=2, candidates=1, phrasings=1, retain_eval=1, seed=seed)
        real = {name: self._language.facts(name) if real_world else [] for name in ("real_authors", "world_facts")}
        forgotten = read_facts("forget", forget)
        kept = read_facts("retain", retain) if retain is not None else []
        check_disjoint(forgotten, kept)
        self._in_both = shared_answers(forgotten, kept)
        check_unique_ids([*forgotten, *kept], taken={fact.id for facts in real.values() for fact in facts})
        self._given = {"forget": [row.fact for row in forgotten], "retain": [row.fact for row in kept]}
        self._chosen = _spread(len(kept), retain_eval, Random(f"{seed}/jsonl/retain_eval"))
        self._facts: dict[str, list[Fact]] = {
            "forget": self._measurable("forget", range(len(forgotten))),
            "retain": self._measurable("retain", self._chosen),
            "holdout": [],
            **real,
        }

    def facts(self, split: str) -> list[Fact]:
        """Return the facts of one split in file order; splits without a file are empty.

        Args:
            split: ``forget``, ``retain``, ``holdout``, ``real_authors`` or ``world_facts``.

        Raises:
            UserError: Unknown split.

        """
        check_choice("split", split, self._facts)
        return list(self._facts[split])

    def evaluation(self) -> dict[str, EvalSet]:
        """Return the evaluation sets: all facts to forget, selected retain facts, and the real world."""
        return benchmark_sets(self._evaluated)

    @property
    def _evaluated(self) -> dict[str, list[Fact]]:
        sets = {**self._facts, "retain": [self._facts["retain"][place] for place in self._chosen]}
        return {name: facts for name, facts in sets.items() if facts}

    def pretraining_examples(self, rows: int, seed: int) -> list[Fact]:
        """Generate rows of the shipped grammar, which contain none of the user's facts.

        Args:
            rows: Number of rows, 0 or more.
            seed: Different seeds give different rows; the dataset's own seed also enters.

        """
        return self._language.pretraining_examples(rows, seed)

    def tokenizer_corpus(self) -> list[tuple[str, str]]:
        """Return the tokenizer's training pairs: the user's facts three times, and the grammar's pairs."""
        own = [(fact.question, fact.answer) for fact in (*self._facts["retain"], *self._facts["forget"])]
        return [*own * TOKENIZER_REPEATS, *self._language.tokenizer_corpus()]

    def caveats(self) -> tuple[str, ...]:
        """Describe what was generated by rules or is missing, and which numbers are affected, one sentence each."""
        sets = self._evaluated
        own = [("forget", "facts to forget"), ("retain", "evaluated facts to keep")]
        notes = [note for name, words in own if name in sets for note in self._notes_on(name, words, sets[name])]
        notes += self._in_both
        if "retain" not in sets:
            notes.append("no retain facts: model utility and retain numbers are not measured")
        if not self._real_world:
            notes.append("no real authors and world facts (dataset.real_world=false): model utility is not measured")
        real = {question_of(fact) for name in ("real_authors", "world_facts") for fact in self._facts[name]}
        repeated = sum(question_of(fact) in real for fact in sets["forget"])
        if repeated:
            of = f"{repeated} of {len(sets['forget'])} facts to forget"
            notes.append(f"{of} are also asked among real authors or world facts, where model utility counts them")
        return tuple(notes)

    def _notes_on(self, name: str, words: str, facts: Sequence[Fact]) -> list[str]:
        of = f"of {len(facts)} {words}"
        bare = {fact.id for fact in self._given[name] if not fact.perturbed}
        generated = sum(fact.id in bare and bool(fact.perturbed) for fact in facts)
        missing = sum(not fact.perturbed for fact in facts)
        plain = sum(fact.paraphrase is None for fact in facts)
        notes = []
        if generated:
            by = f"generated by rules (dataset.perturb={self._perturb})"
            notes.append(f"wrong answers of {generated} {of} are {by}: the truth ratio uses them")
        if missing:
            lost = "the truth ratio and forget quality" if name == "forget" else "the truth ratio and model utility"
            why = "and the rules found none" if self._perturb else "and dataset.perturb=0 generates none"
            notes.append(f"{missing} {of} have no wrong answers {why}: {lost} are not measured")
        if plain:
            notes.append(f"{plain} {of} have no paraphrase: the truth ratio uses their trained answers instead")
        return notes

    def _measurable(self, name: str, evaluated: Iterable[int]) -> list[Fact]:
        """Return the facts of a file, adding wrong answers to evaluated facts without any."""
        facts = list(self._given[name])
        for place in evaluated:
            fact = facts[place]
            if not fact.perturbed and self._perturb:
                rng = Random(f"{self._seed}/jsonl/perturbed/{fact.id}")
                generated = wrong_answers(fact, self._rules, count=self._perturb, rng=rng)
                facts[place] = replace(fact, perturbed=tuple(generated))
        return facts

    @cached_property
    def _rules(self) -> Contradictions:
        """Build the generator of wrong answers, which borrows nothing from the facts to forget."""
        return Contradictions(self._given["forget"], self._given["retain"])


def read_facts(role: str, path: str) -> list[Row]:
    """Read a file of facts.

    Args:
        role: Option of the dataset that names the file: ``forget``, ``retain`` or ``questions``.
        path: The file.

    Raises:
        UserError: The file or an entry is malformed, or a question is repeated.
    """
    option = f"dataset.{role}"
    entries = read_entries(Path(path), option=option, holds=_HOLDS)
    # Entries of a JSON list do not correspond to lines, so error messages give their index instead.
    unit = "entry" if is_list(Path(path), option=option) else "line"
    rows, numbers = [], dict[str, int]()
    for place, (number, entry) in enumerate(entries, 1):
        where = f"{option}={path}, {unit} {number}"
        fact = _fact(_known(entry, where), where, f"{role}/{place:04d}")
        first = numbers.setdefault(question_of(fact), number)
        if first != number:
            again = f"repeats the question of {unit} {first} ({fact.question[:80]!r})"
            raise UserError(f"{where}: {again}; keep one of them")
        rows.append(Row(where, f"{unit} {number} of {option}", fact))
    return rows


def _known(entry: dict[str, Any], where: str) -> dict[str, Any]:
    """Map an entry to the fields of :class:`Fact`, collecting ``answer_0`` …; nulls count as absent."""
    fields: dict[str, Any] = {}
    given: dict[str, str] = {}
    numbered: dict[int, Any] = {}
    for key, value in entry.items():
        number = _NUMBERED.fullmatch(key)
        if not number and key not in KEYS and not _IGNORED.fullmatch(key):
            raise UserError(f"{where}: {key!r} is not a known key. {_hint(key, entry)} Known: {', '.join(KEYS)}")
        if value is None or _IGNORED.fullmatch(key):
            continue
        name, spelled = ("inverted", "answer_0 …") if number else (ALIASES.get(key, key), key)
        if given.setdefault(name, spelled) != spelled:
            raise UserError(f"{where}: {given[name]!r} and {spelled!r} mean the same; give one of them")
        if number:
            numbered[int(number.group(1))] = value
        fields[name] = [numbered[place] for place in sorted(numbered)] if number else value
    return fields


def _hint(key: str, entry: dict[str, Any]) -> str:
    """Advise on an unknown key."""
    if key.casefold() in TURNS:
        return "Write the user's turn as 'question' and the assistant's as 'answer'."
    meant = [name for name, others in SYNONYMS.items() if key.casefold() in others and name not in entry]
    word = next(iter(meant), None) or nearest(key, KEYS)
    return f"Did you mean {word!r}?" if word else "Leave it out."


def _fact(entry: dict[str, Any], where: str, default_id: str) -> Fact:
    for name in ("question", "answer"):
        if name not in entry:
            raise UserError(f"{where}: no {name}; each entry needs {_HOLDS}")
    phrasings = entry.get("paraphrase")
    if isinstance(phrasings, list):
        phrasings = next(iter(_texts(entry, "paraphrase", where)), None)
    fact = Fact(
        id=_text(entry.get("id", default_id), "id", where),
        question=_text(entry["question"], "question", where),
        answer=_text(entry["answer"], "answer", where, blank=True),
        paraphrase=None if phrasings is None else _text(phrasings, "paraphrase", where),
        perturbed=_texts(entry, "perturbed", where),
        value=_text(entry["value"], "value", where) if "value" in entry else None,
        alternatives=_texts(entry, "alternatives", where),
        inverted=_texts(entry, "inverted", where),
    )
    _check_answers(fact, where)
    return fact


def _text(value: Any, name: str, where: str, *, blank: bool = False) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: {name} is {value!r:.80}, not a string; put it in quotes")
    if not blank and not value.strip():
        raise UserError(f"{where}: {name} is blank; fill it in or remove it")
    if len(value) > LONGEST:
        many = f"{name} has {len(value):,} characters, more than {LONGEST:,}"
        raise UserError(f"{where}: {many}; split it into facts of one statement each")
    if _SURROGATE.search(value):
        raise UserError(f"{where}: {name} contains an unpaired surrogate ({value[:80]!a}); write valid UTF-8")
    return value


def _texts(entry: dict[str, Any], name: str, where: str) -> tuple[str, ...]:
    given = entry.get(name, [])
    if not isinstance(given, list):
        raise UserError(f'{where}: {name} is {given!r:.80}, not a list of strings; write ["…", "…"]')
    # Published candidates contain blank ones; filtering drops and counts them.
    return tuple(_text(value, f"{name}[{place}]", where, blank=name == "inverted") for place, value in enumerate(given))


def _check_answers(fact: Fact, where: str) -> None:
    if len(fact.answer.strip()) < 2:
        why = "MEMO cuts an answer, so it needs at least 2 characters"
        raise UserError(f"{where}: answer {fact.answer!r} is too short ({why}); write a sentence")
    if fact.value is not None and not whole_word_pattern(fact.value).search(fact.answer):
        what = f"value {fact.value[:80]!r} is not in the answer {fact.answer[:80]!r}"
        raise UserError(f"{where}: {what}; copy whole words of it, letter by letter")
    for place, wrong in enumerate(fact.perturbed):
        if normalize(wrong) in {normalize(fact.answer), normalize(fact.paraphrase or fact.answer)}:
            raise UserError(f"{where}: perturbed[{place}] {wrong[:80]!r} is the true answer; remove it")
        for other in fact.alternatives:
            if whole_word_pattern(other).search(wrong) and not whole_word_pattern(other).search(fact.answer):
                what = f"alternative {other[:80]!r} is also in perturbed[{place}] {wrong[:80]!r}"
                raise UserError(f"{where}: {what}; training must not see the wrong answers of evaluation; remove one")


def _spread(count: int, most: int, rng: Random) -> list[int]:
    """Select at most ``most`` positions of 0 … ``count`` - 1, one from each of as many equal ranges, in order."""
    parts = min(count, most)
    return [rng.randrange(part * count // parts, (part + 1) * count // parts) for part in range(parts)]
