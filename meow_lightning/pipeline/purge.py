"""Deletion of a dataset's texts for good: what holds them, as the manifests of the store say, and what remains."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError
from meow_lightning.pipeline.dataset_texts import OWN, DatasetTexts
from meow_lightning.pipeline.failures import failure_file
from meow_lightning.pipeline.origin import ORIGIN, dataset_origin
from meow_lightning.pipeline.purge_subject import Subject, dataset_options, find_subject, is_root, origin_of, tag
from meow_lightning.report.page import TABLES
from meow_lightning.stages import stages
from meow_lightning.stages.results.evaluate import RESULTS
from meow_lightning.stages.results.report import ROUNDS
from meow_lightning.store.integrity import MANIFEST
from meow_lightning.store.removal import (
    Stored,
    catalogue,
    held_locks,
    in_use,
    locked,
    remains,
    remove_folder,
    with_needs,
    without_notes,
    write_record,
)
from meow_lightning.store.text_search import TextSearch
from meow_lightning.tracking.curve import CURVE
from meow_lightning.tracking.disclosure import SHAREABLE

NUMBERS = (*TABLES, SHAREABLE, CURVE, ROUNDS, "figures/*.svg")  # files of a report that quote nothing
TRAINED = ("finetune", "unlearn", "attack")  # stages whose models may have learned the facts
WANDB = re.compile(r"(?:offline-)?run-\d+_\d+-(\w+)")  # folder of a W&B run, named by its id: the key of the report


@dataclass(kw_only=True)
class Purge:
    """Everything that holds texts of a dataset, and what of it is removed.

    Attributes:
        outputs: Folder of everything that runs write.
        store: Their store.
        subject: Which dataset or run is purged.
        everything: All results of the store, and the records of removed ones, by key.
        own: Keys of those that the runs of the dataset consist of.
        texts: The texts of the dataset.
        results: Stored results that are removed whole.
        leftovers: Folders of killed or damaged results, and of W&B runs, that are removed whole.
        files: Further files that are removed.
        rewritten: Manifests that lose their notes.
    """

    outputs: Path
    store: Path
    subject: Subject
    everything: Mapping[str, Stored]
    own: set[str]
    texts: DatasetTexts
    results: list[Stored] = field(default_factory=list)
    leftovers: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    rewritten: list[Path] = field(default_factory=list)

    @cached_property
    def search(self) -> TextSearch:
        """The search for the texts."""
        return TextSearch(self.texts.texts)

    @cached_property
    def reports(self) -> dict[str, Stored]:
        """The reports of the runs, also of those purged before, by key."""
        return {key: self.everything[key] for key in sorted(self.own) if self.everything[key].stage == "report"}

    @property
    def run_names(self) -> list[str]:
        """Names of the runs, as in ``reports``."""
        return [tag(each) for each in self.reports.values()]

    @property
    def removed(self) -> list[Path]:
        """Every file that is removed, each once."""
        folders = [folder for each in self.results for folder in remains(each)] + self.leftovers
        return sorted({*self.files, *(path for folder in folders for path in _files(folder))})

    @property
    def kept(self) -> list[Path]:
        """The files with the runs' numbers: metrics, and the tables of their reports."""
        metrics = [self.everything[key] for key in sorted(self.own) if self.everything[key].stage == "evaluate"]
        folders = [self.outputs / "reports" / name for name in self.run_names]
        kept = [each.folder / RESULTS for each in metrics] + [folder / name for folder in folders for name in TABLES]
        removed = set(self.removed)
        return [path for path in kept if path.is_file() and path not in removed]

    def taught(self) -> list[Stored]:
        """List the models in the store that were trained on the texts, or whose tokenizer was."""
        found = []
        for key in sorted(self.own):
            each = self.everything[key]
            settings = each.manifest.get("settings", {})
            if not each.live or each.stage not in TRAINED or "given" in settings:
                continue
            splits = settings.get("splits") or OWN
            if set(splits) & set(self.subject.splits(origin_of(each) or self.origin)):
                found.append(each)
        return found

    @cached_property
    def origin(self) -> Mapping[str, Any]:
        """The dataset of the runs."""
        found = (origin_of(self.everything[key]) for key in sorted(self.own))
        return next((each for each in found if each and (self.subject.run or self.subject.matches(each))), {})

    def remove(self) -> None:
        """Remove and rewrite what is listed; a removal that is killed is completed by the next one."""
        with locked(self.store, self.results):
            for each in self.results:
                if each.live:
                    write_record(self.store, each, **{ORIGIN: origin_of(each) or self.origin}, **_report_entries(each))
            # A report's manifest names the files of the dataset, which a repeated removal reads: it is removed last.
            for each in sorted(self.results, key=lambda each: each.stage == "report"):
                for folder in remains(each):
                    remove_folder(folder)
                (self.store / ".verified" / f"{each.stage}-{each.key}.json").unlink(missing_ok=True)
            for folder in filter(Path.exists, self.leftovers):
                shutil.rmtree(folder)
            for path in self.files:
                path.unlink(missing_ok=True)
            for path in self.rewritten:
                without_notes(path)

    def remaining(self) -> list[Path]:
        """List the files that still contain a text."""
        return [path for path in _everywhere(self.outputs, self.store) if self.search.is_in(path)]


def _report_entries(stored: Stored) -> dict[str, Any]:
    """Build the further entries in the record of a report: the run's name, and a dataset that is no file of a user."""
    options = dataset_options(stored)
    if stored.stage != "report" or options is None:
        return {}
    entries: dict[str, Any] = {"name": stored.manifest["settings"]["name"]}
    return entries if dataset_origin("", options)["files"] else {**entries, "options": options}


def plan_purge(given: str, *, outputs: Path, store: Path, models: bool) -> Purge:
    """Find everything that holds texts of a dataset or run.

    Args:
        given: File of the dataset, its name, or a run: its report's folder, the name of that folder, or its key.
        outputs: Folder of everything that runs write.
        store: Their store.
        models: Whether models that learned the facts are removed too.

    Raises:
        UserError: It is unknown, or a run is computing on it.
    """
    if not store.is_dir():
        raise UserError(f"store={store} is invalid: expected the store of the runs, such as outputs/store")
    everything = catalogue(store)
    subject = find_subject(given, everything)
    roots = [key for key, each in everything.items() if is_root(subject, each)]
    purge = Purge(
        outputs=outputs, store=store, subject=subject, everything=everything, own=with_needs(everything, roots),
        texts=DatasetTexts(),
    )  # fmt: skip
    known = stages()
    own = [everything[key] for key in sorted(purge.own)]
    purge.results = [each for each in own if each.stage in known and known[each.stage].quotes and remains(each)]
    _read_texts(purge, given)
    if models:
        purge.results += purge.taught()
    _refuse_if_used(purge)
    _find_leftovers(purge, models=models)
    _find_published(purge)
    _find_quotes(purge)
    return purge


def _read_texts(purge: Purge, given: str) -> None:
    """Collect the texts of the dataset from its files, and from the predictions that still hold them."""
    nodes: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {}
    for each in purge.reports.values():
        if (options := dataset_options(each)) is not None:
            splits = purge.subject.splits(origin_of(each) or {})
            node = {name: value for name, value in options.items() if name != "name"}
            nodes[json.dumps(node, sort_keys=True)] = node, splits
    for node, splits in nodes.values():
        purge.texts.add_dataset(node, splits)
    if Path(given).is_file() and not purge.texts.texts:  # no report is left that says how to read it
        purge.texts.add_file(given)
    for each in purge.results:
        purge.texts.add_predictions(each, purge.subject.splits(origin_of(each) or purge.origin))


def _refuse_if_used(purge: Purge) -> None:
    """Refuse while a run computes results of the dataset, or results whose dataset is unknown.

    Raises:
        UserError: One does.
    """
    for name, holder in held_locks(purge.store).items():
        stage, _, key = name.rpartition("-")
        known = purge.everything.get(key)
        origin = _started_with(purge.store / stage / f"{key}.partial") or (origin_of(known) if known else None)
        if key in purge.own or origin is None or purge.subject.matches(origin) or purge.subject.run is not None:
            raise in_use(name.replace("-", " "), holder)


def _started_with(partial: Path) -> Mapping[str, Any] | None:
    """Return the dataset of a result in progress; ``None`` if it is not recorded."""
    try:
        content = json.loads((partial / "task.json").read_bytes())
        return dict(content[ORIGIN])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _find_leftovers(purge: Purge, *, models: bool) -> None:
    """Find what killed and damaged computations on the dataset left."""
    known = stages()
    for folder in sorted(purge.store.glob("*/*.*")):
        if not folder.is_dir() or folder.parent.name not in known:
            continue
        key, origin = folder.name.partition(".")[0], _started_with(folder)
        own = key in purge.own or (origin is not None and purge.subject.matches(origin))
        if own and (models or known[folder.parent.name].quotes):
            purge.leftovers.append(folder)


def _find_published(purge: Purge) -> None:
    """Find the files of the runs outside the store: their published reports but for the numbers, and failures."""
    for report in purge.reports.values():
        folder = purge.outputs / "reports" / tag(report)
        kept = {path for path in _files(folder) if any(fnmatch(str(path.relative_to(folder)), n) for n in NUMBERS)}
        purge.files += [path for path in _files(folder) if path not in kept]
        failure = failure_file(purge.outputs, tag(report))
        purge.files += [failure] * failure.is_file()
    if not purge.search.searched:  # what W&B was sent cannot be searched
        purge.leftovers += [folder for folder, key in _wandb_runs(purge.outputs) if key in purge.reports]


def _find_quotes(purge: Purge) -> None:
    """Find the files that quote the texts wherever they are, but for those of other datasets' runs."""
    results = {each.folder: each for each in purge.everything.values()}
    leaving = {*(folder for each in purge.results for folder in remains(each)), *purge.leftovers}
    others = {tag(each) for key, each in purge.everything.items() if each.stage == "report" and key not in purge.own}
    foreign = purge.everything.keys() - purge.own
    wandb = dict(_wandb_runs(purge.outputs))
    listed = set(purge.files)
    for path in _everywhere(purge.outputs, purge.store):
        if path in listed or not leaving.isdisjoint(path.parents) or not purge.search.is_in(path):
            continue
        if (folder := next((each for each in path.parents if each in wandb), None)) is not None:
            if wandb[folder] not in foreign:
                purge.leftovers.append(folder)
                leaving.add(folder)
        elif purge.store in path.parents:
            _find_in_store(purge, path, results, leaving)
        elif not any(part in others for part in path.relative_to(purge.outputs).parts):
            purge.files.append(path)


def _find_in_store(purge: Purge, path: Path, results: Mapping[Path, Stored], leaving: set[Path]) -> None:
    """Decide on a file of the store that quotes the texts although its stage is not expected to."""
    parts = path.relative_to(purge.store).parts
    folder = purge.store.joinpath(*parts[:2])
    stored = results.get(folder)
    if stored is None and len(parts) > 2 and _started_with(folder) is None:
        purge.leftovers.append(folder)  # of a killed computation, by an earlier version
    elif stored is not None and path.name == MANIFEST and stored.key in purge.own and stored.manifest.get("notes"):
        purge.rewritten.append(path)
        return
    elif stored is not None and (
        stored.key in purge.own or (origin_of(stored) is None and stages()[stored.stage].quotes)
    ):
        purge.results.append(stored)
    else:
        return
    leaving.add(folder)


def _wandb_runs(outputs: Path) -> Iterator[tuple[Path, str]]:
    """Yield the folders of W&B runs with the keys of their reports."""
    for folder in sorted((outputs / "runs" / "wandb").glob("*run-*")):
        if folder.is_dir() and not folder.is_symlink() and (found := WANDB.fullmatch(folder.name)):
            yield folder, found[1]


def _everywhere(outputs: Path, store: Path) -> list[Path]:
    """List all files of the outputs and of a store elsewhere; links are not followed: they lead to users' own files."""
    roots = [outputs] if outputs in store.parents else [outputs, store]
    return sorted(path for root in roots for path in _files(root))


def _files(folder: Path) -> Iterable[Path]:
    """List the files below a folder, or a file itself."""
    found = [folder] if folder.is_file() else []
    for place, _, names in os.walk(folder):
        found += [Path(place, name) for name in names if not Path(place, name).is_symlink()]
    return found


def size_below(folder: Path) -> int:
    """Sum the sizes of the files below a folder, without those that links lead to."""
    return sum(path.lstat().st_size for path in _files(folder))
