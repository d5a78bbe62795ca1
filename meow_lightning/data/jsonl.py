"""User-provided facts: a file of facts to forget and, optionally, a file of facts to retain."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from meow_lightning.config.ranges import Count, CountOrZero, Seed
from meow_lightning.data.jsonl_reader import is_list, read_entries
from meow_lightning.data.overlap import Row, question_of
from meow_lightning.data.perturbation import normalize
from meow_lightning.data.question_sets import QuestionSets, check_numbers
from meow_lightning.data.values.matching import contains_value, value_pattern
from meow_lightning.data.words import whole_word_pattern
from meow_lightning.errors import UserError, nearest
from meow_lightning.types import Fact

ALIASES = {
    "undesired_answer": "answer", "paraphrased_answer": "paraphrase", "perturbed_answer": "perturbed",
    "paraphrased_question": "rewordings",
}  # fmt: skip
KEYS = (
    "question", "answer", "id", "paraphrase", "perturbed", "inverted", "value", "values", "alternatives", "group",
    "rewordings", *ALIASES, "answer_0",
)  # fmt: skip
# Names of question and answer in other formats.
SYNONYMS = {
    "question": ("prompt", "instruction", "query", "input", "problem", "human", "user"),
    "answer": ("text", "response", "completion", "output", "target", "reply", "solution", "assistant", "gpt"),
}
TURNS = ("messages", "conversation", "conversations", "dialog", "dialogue", "turns")  # keys of chat transcripts
LONGEST = 20_000  # characters per text: processing time grows quadratically, and a fact is a single statement
_NUMBERED = re.compile(r"answer_(\d+)", re.ASCII)
_IGNORED = re.compile(r".*_rouge1", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_HOLDS = "question and answer"


class Jsonl(QuestionSets):
    """User-provided facts, optionally with the shipped real-world facts.

    Each entry of a file has ``question`` and ``answer`` and may have ``id``, ``paraphrase`` (or TOFU's
    ``paraphrased_answer``), ``perturbed`` (or ``perturbed_answer``), ``inverted`` (or ``answer_0``, ``answer_1`` … as
    in MEOW's published files, whose ``undesired_answer`` is the answer), ``value``, ``values``, ``alternatives`` and
    ``rewordings`` (or one ``paraphrased_question``), all as in :class:`~meow_lightning.types.Fact`, and ``group``, that
    ``protocol.group_by=group`` reads. MEMO scores (``…_rouge1``) are ignored.
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
        check_numbers(perturb=perturb, retain_eval=retain_eval)
        forgotten = read_facts("forget", forget)
        kept = read_facts("retain", retain) if retain is not None else []
        super().__init__(forgotten, kept, real_world=real_world, perturb=perturb, retain_eval=retain_eval, seed=seed)


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
        known = _known(entry, where)
        fact = _fact(known, where, f"{role}/{place:04d}")
        first = numbers.setdefault(question_of(fact), number)
        if first != number:
            again = f"repeats the question of {unit} {first} ({fact.question[:80]!r})"
            raise UserError(f"{where}: {again}; keep one of them")
        group = _text(known["group"], "group", where) if "group" in known else ""
        rows.append(Row(where, f"{unit} {number} of {option}", fact, group))
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
    if isinstance(reworded := entry.get("rewordings"), str):  # as TOFU's files have it
        entry = {**entry, "rewordings": [reworded]}
    if "value" in entry and entry.get("values"):
        raise UserError(
            f"{where}: 'value' and 'values' mean the same; give 'value' for one text that gives the fact away, or "
            "'values' for several"
        )
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
        values=_texts(entry, "values", where),
        rewordings=_texts(entry, "rewordings", where),
    )
    _check_answers(fact, where)
    if len(fact.values) != 1:
        return fact
    # One secret is a value like any other, as the answer spells it.
    found = value_pattern(fact.values[0]).search(fact.answer)
    return replace(fact, value=found.group(), values=())


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
    for place, value in enumerate(fact.values):
        if not contains_value(fact.answer, value):
            what = f"values[{place}] {value[:80]!r} is not in the answer {fact.answer[:80]!r}"
            raise UserError(f"{where}: {what}; copy whole words of it")
    for place, wrong in enumerate(fact.perturbed):
        if normalize(wrong) in {normalize(fact.answer), normalize(fact.paraphrase or fact.answer)}:
            raise UserError(f"{where}: perturbed[{place}] {wrong[:80]!r} is the true answer; remove it")
        for other in fact.alternatives:
            if whole_word_pattern(other).search(wrong) and not whole_word_pattern(other).search(fact.answer):
                what = f"alternative {other[:80]!r} is also in perturbed[{place}] {wrong[:80]!r}"
                raise UserError(f"{where}: {what}; training must not see the wrong answers of evaluation; remove one")
