"""TOFU (Maini et al. 2024, arXiv 2401.06121): 200 fictitious authors with 20 questions each.

Only ``full`` and the sets with wrong answers are read; forget and retain sets are ranges of ``full``, so a fact's id is
its row number in every split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from meow_lightning.config.ranges import Count
from meow_lightning.data.examples import EvalSet, benchmark_sets
from meow_lightning.data.jsonl_reader import Entry
from meow_lightning.data.tofu_source import tofu_source
from meow_lightning.data.tofu_values import with_value
from meow_lightning.errors import UserError, check_choice, invalid_option
from meow_lightning.types import Fact

FORGOTTEN = {"forget01": 40, "forget05": 200, "forget10": 400}  # number of rows at the end of ``full``
NEVER_FORGOTTEN, PER_AUTHOR = range(3600), 20
QUESTIONS = ("trained", "paraphrased")
SETS = ("forget", "retain", "holdout", "real_authors", "world_facts")
WORLD = "world_facts_perturbed"
PLAIN = ("question", "answer")
WRONG = (*PLAIN, "perturbed_answer")
REWORDED = (*WRONG, "paraphrased_answer")


@dataclass(frozen=True, slots=True)
class Parts:
    """A split's TOFU configurations and the rows of ``full``, from 0, that they contain.

    Attributes:
        forget: The forget set, ``forget_rows``; ``forget_perturbed`` adds paraphrases and wrong answers.
        retain: All other rows, or those of the first authors: ``retain_rows``; ``retain_perturbed`` contains the
            evaluated ones, ``evaluated_rows``.
        holdout: As many rows as in the forget set, about authors outside all training.
        published: The published number of rows of every configuration that is read.
    """

    forget: str
    retain: str
    holdout: str
    forget_perturbed: str
    retain_perturbed: str
    real_authors_perturbed: str
    world_facts_perturbed: str
    forget_rows: range
    retain_rows: range
    evaluated_rows: range
    published: dict[str, int]


def parts(split: str, retain_authors: int | None) -> Parts:
    """Derive the configurations and row ranges of a split.

    Args:
        split: ``forget01``, ``forget05`` or ``forget10``: forget the last 1, 5 or 10 % of the authors.
        retain_authors: Number of authors to retain, the first ones, 1 or more; ``None`` for all others.

    Raises:
        UserError: Unknown split, or more authors than the split retains.
    """
    check_choice("dataset.split", split, FORGOTTEN)
    percent, forget_count = split.removeprefix("forget"), FORGOTTEN[split]
    most = (4000 - forget_count) // PER_AUTHOR
    if retain_authors is not None and retain_authors > most:
        expected = f"at most {most}, all that {split} retains; null for all"
        raise invalid_option("dataset.retain_authors", retain_authors, expected, did_you_mean=most)
    retained = PER_AUTHOR * (most if retain_authors is None else retain_authors)
    evaluated = {"retain_perturbed": 400, "real_authors_perturbed": 100, "world_facts_perturbed": 117}
    return Parts(
        forget=split,
        retain=f"retain{100 - int(percent)}",
        holdout=f"holdout{percent}",
        forget_perturbed=f"{split}_perturbed",
        retain_perturbed="retain_perturbed",
        real_authors_perturbed="real_authors_perturbed",
        world_facts_perturbed="world_facts_perturbed",
        forget_rows=range(4000 - forget_count, 4000),
        retain_rows=range(retained),
        evaluated_rows=range(min(400, retained)),
        published={"full": 4000, f"{split}_perturbed": forget_count, **evaluated, f"holdout{percent}": forget_count},
    )


class Tofu:
    """The published questions and answers, with the wrong answers for evaluation."""

    name = "tofu"
    public = True

    def __init__(
        self, *, split: str, folder: str | None, hub: str, retain_authors: Count | None, questions: str
    ) -> None:
        """Read and check everything; held-out rows may be missing.

        Args:
            split: ``forget01``, ``forget05`` or ``forget10``; see :func:`parts`.
            folder: Folder with ``full.json`` and the other files, as published. ``None`` uses the folder ``tofu`` in
                ``$MEOW_DATA_DIR`` if it exists, else the hub.
            hub: ``id@revision`` of the dataset on the Hugging Face hub.
            retain_authors: Number of authors to retain, the first ones, 1 or more; ``None`` for all, as published.
            questions: How forget and retain set are asked in evaluation: ``trained`` as in training, ``paraphrased`` in
                TOFU's other words. Training and MEMO always read the trained questions.

        Raises:
            UserError: Unknown split, too many authors, or the files are unavailable or differ from the published ones.
        """
        self.parts = of = parts(split, retain_authors)
        check_choice("dataset.questions", questions, QUESTIONS)
        self._source = tofu_source(folder, hub, [name for name in of.published if name != of.holdout])
        self._full = self._read("full", PLAIN, "tofu/{:04d}")
        self._add_paraphrases(of.retain_perturbed, range(400))
        self._add_paraphrases(of.forget_perturbed, of.forget_rows)
        self._full[of.forget_rows.start :] = map(with_value, self._rows(of.forget_rows))
        self._sets = {
            "forget": self._rows(of.forget_rows),
            "retain": self._rows(of.retain_rows),
            "real_authors": self._read(of.real_authors_perturbed, WRONG, "real_authors/{:03d}"),
            "world_facts": self._read(of.world_facts_perturbed, WRONG, "world_facts/{:03d}"),
        }
        self._paraphrased: dict[str, str] = {}
        if questions == "paraphrased":
            for name, rows in ((of.retain_perturbed, range(400)), (of.forget_perturbed, of.forget_rows)):
                self._paraphrased |= self._paraphrased_questions(name, rows)
        note = f"Only {retain_authors} authors are retained: not comparable with published results."
        self._notes: tuple[str, ...] = (note,) if retain_authors is not None else ()
        if self._paraphrased:
            self._notes += ("Forget and retain set are asked in TOFU's paraphrased questions (dataset.questions).",)
        try:
            self.facts("holdout")
        except UserError as error:  # only the membership inference attacks need the held-out rows
            self._notes += (f"Membership attacks are not measured: {error}",)

    def facts(self, split: str) -> list[Fact]:
        """Return the facts of one split in published order; evaluated ones have a paraphrase and wrong answers.

        Args:
            split: ``forget``, ``retain``, ``holdout``, ``real_authors`` or ``world_facts``.

        Raises:
            UserError: Unknown split, or the held-out rows are unavailable.
        """
        check_choice("split", split, SETS)
        if split == "holdout" and split not in self._sets:
            self._sets[split] = self._read(self.parts.holdout, PLAIN, "holdout/{:03d}")
        return list(self._sets[split])

    def groups(self) -> dict[str, dict[str, str]]:
        """Return the author of every fact to forget, numbered from 0, by fact id, under ``author``."""
        rows = zip(self.parts.forget_rows, self._rows(self.parts.forget_rows), strict=True)
        return {"author": {fact.id: f"author {row // PER_AUTHOR}" for row, fact in rows}}

    def evaluation(self) -> dict[str, EvalSet]:
        """Return the evaluation sets, all rows of each: retain is ``retain_perturbed``; held-out authors come last."""
        retain = self._rows(self.parts.evaluated_rows)
        names = ("forget", "retain", "real_authors", "world_facts", "holdout")
        sets = {name: retain if name == "retain" else self.facts(name) for name in names if name in self._sets}
        return benchmark_sets({
            name: [replace(fact, question=self._paraphrased.get(fact.id, fact.question)) for fact in facts]
            for name, facts in sets.items()
        })  # fmt: skip

    def pretraining_examples(self, rows: int, seed: int) -> list[Fact]:
        """Sample questions and answers that no split forgets, each once before any is repeated.

        Args:
            rows: Number of rows, 0 or more; a smaller number gives a prefix of a larger one.
            seed: Seed of the order.
        """
        rng = Random(f"tofu/stream/{seed}")
        order: list[int] = []
        while len(order) < rows:
            order += rng.sample(NEVER_FORGOTTEN, len(NEVER_FORGOTTEN))
        drawn = enumerate(self._full[row] for row in order[:rows])
        return [Fact(f"stream/{seed}/{i:06d}", fact.question, fact.answer) for i, fact in drawn]

    def tokenizer_corpus(self) -> list[tuple[str, str]]:
        """Return all pairs of ``full`` and of the real world: one tokenizer serves all splits."""
        every = [*self._full, *self._sets["real_authors"], *self._sets["world_facts"]]
        return [(fact.question, fact.answer) for fact in every]

    def caveats(self) -> tuple[str, ...]:
        """Return notes on authors that are left out and on held-out rows that are unavailable."""
        return self._notes

    def _rows(self, rows: range) -> list[Fact]:
        return self._full[rows.start : rows.stop]

    def _read(self, name: str, keys: Sequence[str], ids: str, first: int = 0) -> list[Fact]:
        """Read the facts of a configuration, checking the number of rows and their keys."""
        rows, where, published = self._source.read(name), self._source.where(name), self.parts.published[name]
        if len(rows) != published:
            raise UserError(f"{where} has {len(rows)} rows instead of the {published} published; download it again")
        return [_fact(row, keys, f"{where}, row {i + 1}", ids.format(first + i)) for i, row in enumerate(rows)]

    def _paraphrased_questions(self, name: str, rows: range) -> dict[str, str]:
        """Return the first rewording of the questions in rows of ``full``, by id, from the configuration ``name``."""
        facts = self._rows(rows)
        for i, fact in enumerate(facts):
            if not fact.rewordings:
                where = f"{self._source.where(name)}, row {i + 1}"
                raise UserError(f"{where}: paraphrased_question is missing or not a text; download it again")
        return {fact.id: fact.rewordings[0] for fact in facts}

    def _add_paraphrases(self, name: str, rows: range) -> None:
        """Add paraphrases and wrong answers to rows of ``full``, after checking that both files agree."""
        facts = self._read(name, REWORDED, "tofu/{:04d}", rows.start)
        for i, (fact, original) in enumerate(zip(facts, self._rows(rows), strict=True)):
            if (fact.question, fact.answer) != (original.question, original.answer):
                where = f"{self._source.where(name)}, row {i + 1}"
                other = f"not the question and answer of full, row {rows[i] + 1}"
                raise UserError(f"{where}: {other}; the files are of different versions; download both again")
        self._full[rows.start : rows.stop] = facts


def read_world_facts(folder: str | None, hub: str) -> list[Fact]:
    """Read the questions about the real world with their wrong answers, in published order.

    Args:
        folder: As for :class:`Tofu`.
        hub: As for :class:`Tofu`.

    Raises:
        UserError: The file is unavailable or malformed.
    """
    source = tofu_source(folder, hub, [WORLD])
    where = source.where(WORLD)
    rows = enumerate(source.read(WORLD))
    return [_fact(row, WRONG, f"{where}, row {i + 1}", f"world_facts/{i:03d}") for i, row in rows]


def _fact(row: Entry, keys: Sequence[str], where: str, name: str) -> Fact:
    for key in keys:
        texts = row.get(key) if key == "perturbed_answer" else [row.get(key)]
        if not (isinstance(texts, list) and texts and all(isinstance(text, str) and text.strip() for text in texts)):
            kind = "a list of strings" if key == "perturbed_answer" else "a text"
            raise UserError(f"{where}: {key} is missing or not {kind}; download it again")
    paraphrase = row["paraphrased_answer"] if "paraphrased_answer" in keys else None
    perturbed = tuple(row["perturbed_answer"]) if "perturbed_answer" in keys else ()
    text = row.get("paraphrased_question")
    other = (text,) if isinstance(text, str) and text.strip() else ()
    return Fact(name, row["question"], row["answer"], paraphrase=paraphrase, perturbed=perturbed, rewordings=other)
