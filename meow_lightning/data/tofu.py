"""TOFU (Maini et al. 2024, arXiv 2401.06121): 200 fictitious authors with 20 questions each, read and checked.

Only ``full`` and the sets with wrong answers are read; what is forgotten and what is retained are stretches of
``full``. So a fact bears the number of its row in every split.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random

from meow_lightning.data.jsonl_reader import Entry, read_entries
from meow_lightning.errors import UserError, check_choice
from meow_lightning.types import Fact

FORGOTTEN = {"forget01": 40, "forget05": 200, "forget10": 400}  # rows, the last of ``full``
NEVER_FORGOTTEN = range(3600)
SETS = ("forget", "retain", "holdout", "real_authors", "world_facts")
PLAIN = ("question", "answer")
WRONG = (*PLAIN, "perturbed_answer")
REWORDED = (*WRONG, "paraphrased_answer")
LOCALLY = "set MEOW_DATA_DIR to a folder that holds tofu/full.json and the other files, or dataset.folder=FOLDER"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a split stands for: names of TOFU's configurations and the rows of ``full``, from 0, that they hold.

    Attributes:
        forget: The rows to forget, ``forget_rows``; ``forget_perturbed`` adds paraphrases and wrong answers.
        retain: All other rows, ``retain_rows``; ``retain_perturbed`` has those that are evaluated, ``evaluated_rows``.
        holdout: As many rows as are to be forgotten, about authors that are in no training.
        published: The number of rows of every configuration that is read, as published.
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


def parts(split: str) -> Parts:
    """Everything that follows from a split.

    Args:
        split: ``forget01``, ``forget05`` or ``forget10``: the last 1, 5 or 10 % of the authors are to be forgotten.

    Raises:
        UserError: There is no such split.
    """
    check_choice("dataset.split", split, FORGOTTEN)
    percent, gone = split.removeprefix("forget"), FORGOTTEN[split]
    evaluated = {"retain_perturbed": 400, "real_authors_perturbed": 100, "world_facts_perturbed": 117}
    return Parts(
        forget=split,
        retain=f"retain{100 - int(percent)}",
        holdout=f"holdout{percent}",
        forget_perturbed=f"{split}_perturbed",
        retain_perturbed="retain_perturbed",
        real_authors_perturbed="real_authors_perturbed",
        world_facts_perturbed="world_facts_perturbed",
        forget_rows=range(4000 - gone, 4000),
        retain_rows=range(4000 - gone),
        evaluated_rows=range(400),
        published={"full": 4000, f"{split}_perturbed": gone, **evaluated, f"holdout{percent}": gone},
    )


class Tofu:
    """The published questions and answers, with the wrong answers that evaluation compares them with."""

    name = "tofu"
    public = True

    def __init__(self, *, split: str, folder: str | None, hub: str) -> None:
        """Read and check everything; held-out rows may lack.

        Args:
            split: ``forget01``, ``forget05`` or ``forget10``; see :func:`parts`.
            folder: Folder with ``full.json`` and the other files, as published. ``None`` takes the folder ``tofu`` in
                ``$MEOW_DATA_DIR`` when there is one, else the hub.
            hub: ``id@revision`` of the dataset on the Hugging Face hub.

        Raises:
            UserError: The split is unknown, the files cannot be had or are not as published.
        """
        self.parts = of = parts(split)
        self._source = _source(folder, hub, [name for name in of.published if name != of.holdout])
        self._full = self._read("full", PLAIN, "tofu/{:04d}")
        self._reword(of.retain_perturbed, of.evaluated_rows)
        self._reword(of.forget_perturbed, of.forget_rows)
        self._sets = {
            "forget": self._stretch(of.forget_rows),
            "retain": self._stretch(of.retain_rows),
            "real_authors": self._read(of.real_authors_perturbed, WRONG, "real_authors/{:03d}"),
            "world_facts": self._read(of.world_facts_perturbed, WRONG, "world_facts/{:03d}"),
        }
        self._notes: tuple[str, ...] = ()
        try:
            self.facts("holdout")
        except UserError as error:  # the attacks alone need it
            self._notes = (f"No membership attack is measured: {error}",)

    def facts(self, split: str) -> list[Fact]:
        """The facts of one split in the published order; those that are evaluated carry paraphrase and wrong answers.

        Args:
            split: ``forget``, ``retain``, ``holdout``, ``real_authors`` or ``world_facts``.

        Raises:
            UserError: There is no such split, or the held-out rows cannot be had.
        """
        check_choice("split", split, SETS)
        if split == "holdout" and split not in self._sets:
            self._sets[split] = self._read(self.parts.holdout, PLAIN, "holdout/{:03d}")
        return list(self._sets[split])

    def evaluation(self) -> dict[str, list[Fact]]:
        """The evaluation sets by name, all rows of each: retain is ``retain_perturbed``; held-out authors come last."""
        retain = self._stretch(self.parts.evaluated_rows)
        names = ("forget", "retain", "real_authors", "world_facts", "holdout")
        return {name: retain if name == "retain" else self.facts(name) for name in names if name in self._sets}

    def pretraining_examples(self, rows: int, seed: int) -> list[Fact]:
        """Questions and answers that no split forgets, every one once before any comes twice.

        Args:
            rows: Number of rows, 0 or more; fewer are the first of more.
            seed: Another seed gives another order.
        """
        rng = Random(f"tofu/stream/{seed}")
        order: list[int] = []
        while len(order) < rows:
            order += rng.sample(NEVER_FORGOTTEN, len(NEVER_FORGOTTEN))
        drawn = enumerate(self._full[row] for row in order[:rows])
        return [Fact(f"stream/{seed}/{i:06d}", fact.question, fact.answer) for i, fact in drawn]

    def tokenizer_corpus(self) -> list[tuple[str, str]]:
        """Questions and answers of all of ``full`` and of the real world: one tokenizer serves all splits."""
        every = [*self._full, *self._sets["real_authors"], *self._sets["world_facts"]]
        return [(fact.question, fact.answer) for fact in every]

    def caveats(self) -> tuple[str, ...]:
        """What could not be had; every row that there is is as published."""
        return self._notes

    def _stretch(self, rows: range) -> list[Fact]:
        return self._full[rows.start : rows.stop]

    def _read(self, name: str, keys: Sequence[str], ids: str, first: int = 0) -> list[Fact]:
        """The facts of a configuration: as many rows as published, each with all keys."""
        rows, where, published = self._source.read(name), self._source.where(name), self.parts.published[name]
        if len(rows) != published:
            raise UserError(f"{where} holds {len(rows)} rows, but {published} are published; fetch it anew")
        return [_fact(row, keys, f"{where}, row {i + 1}", ids.format(first + i)) for i, row in enumerate(rows)]

    def _reword(self, name: str, rows: range) -> None:
        """Give some rows of ``full`` their paraphrase and wrong answers, once both files are seen to say the same."""
        facts = self._read(name, REWORDED, "tofu/{:04d}", rows.start)
        for i, (fact, known) in enumerate(zip(facts, self._stretch(rows), strict=True)):
            if (fact.question, fact.answer) != (known.question, known.answer):
                where = f"{self._source.where(name)}, row {i + 1}"
                other = f"not the question and answer of full, row {rows[i] + 1}"
                raise UserError(f"{where}: {other}; the files are of different versions: fetch both anew")
        self._full[rows.start : rows.stop] = facts


def _fact(row: Entry, keys: Sequence[str], where: str, name: str) -> Fact:
    for key in keys:
        texts = row.get(key) if key == "perturbed_answer" else [row.get(key)]
        if not (isinstance(texts, list) and texts and all(isinstance(text, str) and text.strip() for text in texts)):
            kind = "a list of texts" if key == "perturbed_answer" else "a text"
            raise UserError(f"{where}: {key} is missing or not {kind}; fetch it anew")
    paraphrase = row["paraphrased_answer"] if "paraphrased_answer" in keys else None
    perturbed = tuple(row["perturbed_answer"]) if "perturbed_answer" in keys else ()
    return Fact(name, row["question"], row["answer"], paraphrase=paraphrase, perturbed=perturbed)


class _Folder:
    """Files as published: JSON lines or one list each."""

    def __init__(self, option: str, folder: Path, needed: Sequence[str]) -> None:
        self._option, self._folder = option, folder
        if not folder.is_dir():
            files = ", ".join(f"{name}.json" for name in needed)
            raise UserError(f"{option}={folder} is no folder; give one that holds TOFU's {files}")
        self._check(needed)

    def where(self, name: str) -> str:
        return f"{self._option}={self._folder / name}.json"

    def read(self, name: str) -> list[Entry]:
        self._check([name])
        entries = read_entries(self._folder / f"{name}.json", option=self._option, holds="a question and its answer")
        return [row for _, row in entries]

    def _check(self, needed: Sequence[str]) -> None:
        missing = [f"{name}.json" for name in needed if not (self._folder / f"{name}.json").is_file()]
        if missing:
            raise UserError(
                f"{self._option}={self._folder} lacks {', '.join(missing)} with TOFU's questions and answers; put what "
                "is missing there, or set dataset.folder=FOLDER to a folder that holds all"
            )


class _Hub:
    """The hub's dataset at one revision; its cached copy when the hub does not answer."""

    def __init__(self, hub: str) -> None:
        self._id, _, self._revision = hub.partition("@")
        if not (self._id and self._revision):
            raise UserError(f"dataset.hub={hub} is not of the form id@revision; a revision keeps results comparable")
        self._hub, self._silence = hub, _silence(self._id, self._revision)

    def where(self, name: str) -> str:
        return f"dataset.hub={self._hub}, configuration {name}"

    def read(self, name: str) -> list[Entry]:
        import datasets
        from huggingface_hub.errors import HTTPError

        try:
            with _offline() if self._silence else nullcontext():
                table = datasets.load_dataset(self._id, name, split="train", revision=self._revision)
        except (OSError, ValueError, HTTPError, datasets.exceptions.DatasetsError) as error:
            raise self._failure(name, error) from error
        # without the hub, datasets takes the newest copy of whatever revision; a branch has no folder to compare
        folders = [part for file in table.cache_files for part in Path(file["filename"]).parts]
        if self._silence and re.fullmatch("[0-9a-f]{40}", self._revision) and self._revision not in folders:
            raise self._failure(name, self._silence)
        return [dict(row) for row in table]

    def _failure(self, name: str, error: Exception) -> UserError:
        import datasets
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

        if self._silence is None:
            return UserError(f"{self.where(name)} cannot be read ({_line(error)}); try again, or {LOCALLY}")
        reason = _line(self._silence)
        if isinstance(self._silence, (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError)):
            return UserError(f"dataset.hub={self._hub} is not on the hub ({reason}); mend it, or {LOCALLY}")
        return UserError(
            f"dataset=tofu: {self._id} is neither in the cache ({datasets.config.HF_DATASETS_CACHE}) nor can the hub "
            f"be reached ({reason}); connect once, or {LOCALLY}"
        )


def _source(folder: str | None, hub: str, needed: Sequence[str]) -> _Folder | _Hub:
    if folder is not None:
        return _Folder("dataset.folder", Path(folder).expanduser(), needed)
    around = os.environ.get("MEOW_DATA_DIR")
    if around and (Path(around) / "tofu").is_dir():
        return _Folder("MEOW_DATA_DIR", Path(around) / "tofu", needed)
    return _Hub(hub)


def _silence(dataset: str, revision: str) -> Exception | None:
    """Why the hub does not answer; ``None`` when it does. Left to itself, datasets would try for half a minute."""
    import datasets
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, HTTPError

    if datasets.config.HF_HUB_OFFLINE:
        return ConnectionError("offline mode is on")
    try:
        HfApi().dataset_info(dataset, revision=revision, timeout=5)
    except (OSError, HTTPError, HFValidationError) as error:
        return error
    return None


@contextmanager
def _offline() -> Iterator[None]:
    """Datasets looks into its cache alone, and does not remark on that for every configuration."""
    import datasets

    before, loud = datasets.config.HF_HUB_OFFLINE, datasets.logging.get_verbosity()
    datasets.config.HF_HUB_OFFLINE = True
    datasets.logging.set_verbosity_error()
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before
        datasets.logging.set_verbosity(loud)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
