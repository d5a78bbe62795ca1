"""The texts of a dataset, as its files and stored results have them, for a search in other files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meow_lightning.config.instantiate import component_class, instantiate
from meow_lightning.data.examples import Dataset, Example
from meow_lightning.data.jsonl import read_facts
from meow_lightning.data.probed import is_probed
from meow_lightning.errors import UserError
from meow_lightning.stages.results.predict import PredictResult
from meow_lightning.store.removal import Stored

OWN = ("forget", "retain", "holdout")  # sets that a dataset does not share with others, unlike real authors


@dataclass
class DatasetTexts:
    """Texts of a dataset.

    Attributes:
        texts: The texts: questions, answers, both in other words, and wrong answers.
        unread: Why the files of the dataset could not be read, one sentence each.
    """

    texts: set[str] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)

    def add_dataset(self, node: Mapping[str, Any], splits: Collection[str]) -> None:
        """Add the examples of some splits of a dataset.

        Args:
            node: Its ``_target_`` and its arguments.
            splits: The splits.
        """
        try:
            asked = {"probed": None} if is_probed(component_class(node, allow=())) else {}
            dataset: Dataset = instantiate({**node, **asked}, allow=())
        except UserError as error:
            self.unread.append(str(error))
            return
        sets = dataset.evaluation()
        for split in splits:
            self.texts.update(_texts(sets.get(split, ())))
            if split != "holdout":  # a set of the evaluation alone
                self.texts.update(_texts(dataset.facts(split)))

    def add_file(self, path: str) -> None:
        """Add the facts of a file in the format of ``dataset=jsonl``."""
        try:
            self.texts.update(_texts(row.fact for row in read_facts("forget", path)))
        except UserError as error:
            self.unread.append(str(error))

    def add_predictions(self, stored: Stored, splits: Collection[str]) -> None:
        """Add the questions and answers of a result, if it is stored predictions."""
        if stored.stage == "predict" and stored.live:
            rows = _rows(stored.folder)
            self.texts.update(text for row in rows if row.set in splits for text in (row.question, row.answer))


def _rows(folder: Path) -> Iterable[Any]:
    try:
        return PredictResult.read(folder).rows
    except (UserError, OSError, ValueError):  # damaged, or from an earlier version
        return ()


def _texts(examples: Iterable[Example]) -> Iterator[str]:
    for example in examples:
        yield from (example.question, example.answer, *example.rewordings, *example.inverted, *example.perturbed)
        if example.paraphrase is not None:
            yield example.paraphrase
        for pair in example.phrasings:
            yield from pair
