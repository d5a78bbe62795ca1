"""User-provided documents: text files whose passages are forgotten, and optionally others that are kept or held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import NamedTuple

from meow_lightning.config.ranges import Count, Seed
from meow_lightning.config.signature import checked_ranges
from meow_lightning.data.examples import EvalSet, Passage, benchmark_sets
from meow_lightning.data.fictional import Fictional
from meow_lightning.data.jsonl_reader import Entry, read_entries
from meow_lightning.data.text_files import read_text
from meow_lightning.data.words import chunk_ends, comparable
from meow_lightning.errors import UserError, check_choice, nearest
from meow_lightning.types import Fact, Segments

TOKENIZER_REPEATS = 3  # keeps the pretraining rows from outweighing the user's words
ROLES = ("forget", "retain", "holdout")
REAL = ("real_authors", "world_facts")
KEYS = ("text", "prompt", "completion", "id")
SYNONYMS = {"document": "text", "content": "text", "body": "text", "prefix": "prompt", "output": "completion"}
_HOLDS = "a text, or a prompt and its completion"


class Document(NamedTuple):
    """A document, or one passage with a given cut.

    Attributes:
        id: Identifier, unique within the dataset.
        where: Option, file and entry, for error messages.
        text: The text.
        prefix: Number of its first characters that are shown; ``None`` for a document to be cut into passages.
    """

    id: str
    where: str
    text: str
    prefix: int | None


@checked_ranges("dataset")
class Documents:
    """Passages of documents to forget, and optionally of others.

    A file holds one document as plain text (``.txt``, ``.md``), or JSON lines or one JSON list, each entry with a
    document in ``text``, or with a passage in ``prompt`` and ``completion``, which are joined as they stand. An entry
    may have an ``id``. A folder holds one document in each of its ``.txt`` files.

    A document is cut into passages of a prefix, which the model is shown, and a target, which it is trained and scored
    on. The targets are consecutive and nearly equally long, so that every word after the first prefix belongs to
    exactly one of them; each prefix is what precedes its target.
    """

    name = "documents"
    public = False

    def __init__(
        self, *, forget: str, retain: str | None, holdout: str | None, prefix_words: Count, target_words: Count,
        real_world: bool, retain_eval: Count, seed: Seed,
    ) -> None:  # fmt: skip
        """Read all files and cut the documents.

        Args:
            forget: File or folder of the documents to forget.
            retain: File or folder of the documents to keep, or ``None``.
            holdout: File or folder of documents that no model is trained on, which membership attacks compare with, or
                ``None``.
            prefix_words: Words of a prefix, 1 or more; at most half of the document.
            target_words: Maximum words of a target, 1 or more. In scripts without blanks between words, every
                character counts as one.
            real_world: Whether to evaluate the shipped facts about real authors and the world.
            retain_eval: Maximum number of evaluated passages to keep, 1 or more, spread over the documents.
            seed: Seed of the evaluated passages and of the pretraining rows.

        Raises:
            UserError: An argument is out of range, a file or entry is malformed, a document is too short, an id is
                duplicated, or a passage is to be forgotten and kept or held out at once.

        """
        # Minimal: only its pretraining rows and real-world facts are used, which do not depend on the authors.
        self._language = Fictional(split="forget01", authors=2, candidates=1, phrasings=1, retain_eval=1, seed=seed)
        self._real = {name: self._language.facts(name) if real_world else [] for name in REAL}
        documents = {
            role: [] if path is None else list(_read(role, Path(path)))
            for role, path in zip(ROLES, (forget, retain, holdout), strict=True)
        }
        _check_ids([each for group in documents.values() for each in group])
        self._passages = {
            role: [
                passage
                for document in group
                for passage in cut(document, prefix_words=prefix_words, target_words=target_words)
            ]
            for role, group in documents.items()
        }
        _check_disjoint(self._passages)
        self._evaluated = _spread(self._passages["retain"], retain_eval, Random(f"{seed}/documents/retain_eval"))

    def facts(self, split: str) -> Sequence[Passage | Fact]:
        """Return the passages of ``forget``, ``retain`` or ``holdout``, or the facts of a set of the real world.

        Args:
            split: One of these, ``real_authors`` or ``world_facts``; empty if the dataset has none.

        Raises:
            UserError: Unknown split.

        """
        check_choice("split", split, (*ROLES, *REAL))
        return list(self._passages[split] if split in ROLES else self._real[split])

    def evaluation(self) -> dict[str, EvalSet]:
        """Return the evaluation sets: all passages to forget, selected ones to keep, real world, held-out passages."""
        passages = {**self._passages, "retain": self._evaluated}
        sets: dict[str, Sequence[Passage | Fact]] = {
            "forget": passages["forget"], "retain": passages["retain"], **self._real, "holdout": passages["holdout"],
        }  # fmt: skip
        return benchmark_sets({name: examples for name, examples in sets.items() if examples})

    def pretraining_examples(self, rows: int, seed: int) -> list[Fact]:
        """Generate rows of the shipped grammar, which contain no text of the documents.

        Args:
            rows: Number of rows, 0 or more.
            seed: Different seeds give different rows; the dataset's own seed also enters.

        """
        return self._language.pretraining_examples(rows, seed)

    def tokenizer_corpus(self) -> list[tuple[str, str] | Segments]:
        """Return the tokenizer's training texts: the trained passages three times, and the grammar's pairs."""
        own = [passage.segments for role in ("retain", "forget") for passage in self._passages[role]]
        return [*own * TOKENIZER_REPEATS, *self._language.tokenizer_corpus()]

    def caveats(self) -> tuple[str, ...]:
        """Describe what is not measured on passages, one sentence each."""
        notes = [
            "passages have no wrong answers: the truth ratio, forget quality and model utility are not measured",
            "passages that end before their document are trained and scored without an end token; metrics that leave "
            "out the end token leave out the last token of these",
        ]
        if not self._passages["retain"]:
            notes.append("no documents to keep: retain numbers are not measured")
        if not self._passages["holdout"]:
            notes.append("no held-out documents: membership attacks are not measured")
        return tuple(notes)


def cut(document: Document, *, prefix_words: int, target_words: int) -> list[Passage]:
    """Cut a document into passages; one with a given cut is a passage itself.

    Args:
        document: The document.
        prefix_words: Words of a prefix, at most half of the document's.
        target_words: Maximum words of a target.

    Raises:
        UserError: It has fewer than two words.
    """
    text = document.text
    if document.prefix is not None:
        return [Passage(document.id, text, document.prefix, ends=True)]
    ends = _word_ends(text)
    if len(ends) < 2:
        raise UserError(
            f"{document.where}: a document needs at least 2 words, one to show and one to forget; lengthen it or "
            "leave it out"
        )
    prefix = min(prefix_words, len(ends) // 2)
    rest = len(ends) - prefix
    parts = -(-rest // target_words)
    borders = [prefix + part * rest // parts for part in range(parts + 1)]
    passages = []
    for number, (first, last) in enumerate(pairwise(borders)):
        begin = ends[first - prefix - 1] if first > prefix else 0
        piece = text[begin : ends[last - 1]]
        blank = len(piece) - len(piece.lstrip())  # the text begins with a word, as the document does
        prefix_length = ends[first - 1] - begin - blank
        passages.append(Passage(f"{document.id}/{number:04d}", piece[blank:], prefix_length, ends=last == len(ends)))
    return passages


def _word_ends(text: str) -> list[int]:
    """Find the ends of a text's words, in characters; marks between blanks belong to the preceding word."""
    ends: list[int] = []
    start = 0
    for end in chunk_ends(text):
        if ends and not any(map(str.isalnum, text[start:end])):
            ends.pop()
        ends.append(end)
        start = end
    return ends


def _read(role: str, path: Path) -> Iterator[Document]:
    """Read the documents of a file or folder."""
    option = f"dataset.{role}"
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{option}={path} is a folder without .txt files; give a file, or add documents to it")
    for place, file in enumerate(files, 1):
        if file.suffix.lower() in (".jsonl", ".json"):
            for number, entry in read_entries(file, option=option, holds=_HOLDS):
                yield _document(entry, f"{option}={file}, entry {number}", f"{role}/{number:04d}")
        else:
            text = read_text(file, where=f"{option}={file}", give="a text file, JSON lines or a folder of .txt files")
            yield Document(f"{role}/{place:04d}", f"{option}={file}", text.strip(), None)


def _document(entry: Entry, where: str, default_id: str) -> Document:
    for key in entry:
        if key not in KEYS:
            meant = SYNONYMS.get(key.casefold()) or nearest(key, KEYS)
            hint = f"Did you mean {meant!r}?" if meant else "Leave it out."
            raise UserError(f"{where}: {key!r} is not a known key. {hint} Known: {', '.join(KEYS)}")
    given = {key: _text(value, key, where) for key, value in entry.items() if value is not None}
    name = given.get("id", default_id)
    if set(given) - {"id"} == {"text"}:
        return Document(name, where, given["text"].strip(), None)
    if set(given) - {"id"} == {"prompt", "completion"}:
        return Document(name, where, given["prompt"] + given["completion"], len(given["prompt"]))
    raise UserError(f"{where}: each entry needs {_HOLDS}; it has {', '.join(given) or 'none of them'}")


def _text(value: object, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: {key} is {value!r:.80}, not a string; put it in quotes")
    if not value.strip() or (key == "completion" and len(value.strip()) < 2):
        raise UserError(f"{where}: {key} {value!r} is too short; write a text of at least 2 characters")
    return value


def _check_ids(documents: Sequence[Document]) -> None:
    seen: dict[str, str] = {}
    for each in documents:
        first = seen.setdefault(each.id, each.where)
        if first != each.where:
            raise UserError(f"{each.where}: id {each.id!r} is also that of {first}; give each document its own id")


def _check_disjoint(passages: dict[str, list[Passage]]) -> None:
    """Check that no passage has two roles."""
    first: dict[str, Passage] = {}
    roles: dict[str, str] = {}
    for role, group in passages.items():
        for passage in group:
            same = comparable(passage.text)
            if roles.setdefault(same, role) != role:
                what = f"passages {first[same].id} and {passage.id} are the same text ({passage.text[:60]!r})"
                raise UserError(
                    f"dataset.{roles[same]} and dataset.{role}: {what}; a passage is forgotten, kept or held out, so "
                    "remove it from one of them"
                )
            first.setdefault(same, passage)


def _spread(passages: Sequence[Passage], most: int, rng: Random) -> list[Passage]:
    """Select at most ``most`` passages, one from each of as many equal ranges, in order."""
    parts, count = min(len(passages), most), len(passages)
    return [passages[rng.randrange(i * count // parts, (i + 1) * count // parts)] for i in range(parts)]
