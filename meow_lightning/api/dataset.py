"""Datasets of the library: a dataset of ``conf/dataset`` or a file of facts or text, with its splits as attributes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meow_lightning.config.composition import library_options, words_of
from meow_lightning.config.files import CONF
from meow_lightning.config.instantiate import component_class
from meow_lightning.data.examples import Dataset, EvalSet, Example
from meow_lightning.data.probed import is_probed
from meow_lightning.data.subset import LimitedDataset
from meow_lightning.errors import UserError, suggestion
from meow_lightning.types import Segments

FILES = {".jsonl": "jsonl", ".json": "jsonl", ".txt": "documents"}  # dataset of a file with this ending


class FactDataset:
    """A dataset whose splits are attributes; itself a :class:`meow_lightning.data.examples.Dataset`.

    Args:
        dataset: The dataset.

    Attributes:
        name: Name of the dataset.
        public: Whether its texts may appear in logs without explicit consent.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.name, self.public = dataset.name, dataset.public

    @property
    def forget(self) -> list[Example]:
        """Facts, or passages of documents, to forget."""
        return self.facts("forget")

    @property
    def retain(self) -> list[Example]:
        """Examples to keep; empty if there are none."""
        return self.facts("retain")

    @property
    def holdout(self) -> list[Example]:
        """Examples like those to forget that no model was trained on; empty if there are none."""
        return self.facts("holdout")

    def facts(self, split: str) -> list[Example]:
        """Return the examples of a split, such as ``forget`` or ``retain``."""
        return list(self.dataset.facts(split))

    def evaluation(self) -> dict[str, EvalSet]:
        """Return the evaluation sets by name, in report order."""
        return self.dataset.evaluation()

    def pretraining_examples(self, rows: int, seed: int) -> list[Example]:
        """Sample rows for pretraining a base model."""
        return list(self.dataset.pretraining_examples(rows, seed))

    def tokenizer_corpus(self) -> Sequence[tuple[str, str] | Segments]:
        """Return the (question, answer) pairs, and the segments of raw text, to train a tokenizer on."""
        return self.dataset.tokenizer_corpus()

    def caveats(self) -> tuple[str, ...]:
        """Return caveats for readers of the results, one sentence each."""
        return self.dataset.caveats()

    def __repr__(self) -> str:
        """Name the dataset and the sizes of its splits."""
        return f"FactDataset({self.name}: {len(self.forget)} examples to forget, {len(self.retain)} to keep)"


def load_dataset(
    name: str | Path,
    *,
    retain: str | Path | None = None,
    split: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    trusted_packages: Sequence[str] = (),
    **options: Any,
) -> FactDataset:
    """Load a dataset by the name of its file in ``conf/dataset``, or a file of facts or text to forget.

    Args:
        name: ``tofu``, ``fictional`` or another file of ``conf/dataset``; or the path of a JSON-lines file (or of one
            JSON list) with ``question`` and ``answer`` in each entry, or of a ``.txt`` file, a document to forget.
        retain: For a file: the file of the facts, or of the documents, to keep; ``None`` for none.
        split: For datasets with several splits: such as ``forget05``, which determines all others.
        limit: Maximum number of facts per split and evaluation set, from 1; ``None`` for all.
        seed: Seed of all random choices, from 0.
        trusted_packages: Further packages that a file of ``conf/dataset`` may name.
        **options: Further options of the dataset, as in its file; those not given keep the file's values.

    Raises:
        UserError: The name is unknown, an option is invalid, or a file is malformed.
    """
    chosen, options = str(name), {**options, "split": split}
    if retain is not None:
        options["retain"] = Path(retain).expanduser()
    path = Path(chosen).expanduser()
    if path.suffix in FILES or path.is_file():
        options["forget"], chosen = path, FILES.get(path.suffix, "jsonl")
    names = sorted(path.stem for path in (CONF / "dataset").glob("*.yaml"))
    if chosen not in names:
        raise UserError(
            f"name={chosen} is invalid: expected one of {', '.join(names)}, or the path of a file that ends in "
            f"{' or '.join(FILES)}{suggestion(chosen, names)}"
        )
    general = {"seed": seed, "limit": limit, "trusted_packages": list(trusted_packages)}
    composed = library_options([f"dataset={chosen}", *words_of("", general), *words_of("dataset", options)])
    if is_probed(component_class(composed.dataset.keyed, allow=trusted_packages)):
        raise UserError(
            f"name={chosen} is invalid: expected a dataset that no model decides on; which facts this one forgets "
            f'depends on what a model answers, so use meow_lightning.run(["dataset={chosen}", …]), which asks it'
        )
    dataset: Dataset = composed.dataset.instantiate(allow=trusted_packages)
    return FactDataset(dataset if limit is None else LimitedDataset(dataset=dataset, limit=limit))
