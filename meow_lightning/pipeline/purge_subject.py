"""Selection of the results that a purge covers: those of a dataset, of one of its files, or of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError, suggestion
from meow_lightning.pipeline.dataset_texts import OWN
from meow_lightning.pipeline.origin import ORIGIN, dataset_origin, path_digest
from meow_lightning.store.removal import Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Which dataset or run is purged; exactly one of the three is set.

    Attributes:
        name: Name of a dataset.
        file: Digest of the path of a dataset's file.
        run: Key of a run's report.
    """

    name: str | None = None
    file: str | None = None
    run: str | None = None

    def matches(self, origin: Mapping[str, Any]) -> bool:
        """Whether a result was computed from the dataset."""
        named = self.name is not None and origin.get("name") == self.name
        return named or self.file in origin.get("files", {}).values()

    def splits(self, origin: Mapping[str, Any]) -> tuple[str, ...]:
        """List the splits whose texts are purged: those of the given file, or all of the dataset's own."""
        given = tuple(option for option, file in origin.get("files", {}).items() if file == self.file)
        return given if given and set(given) <= set(OWN) else OWN


def origin_of(stored: Stored) -> Mapping[str, Any] | None:
    """Return the dataset of a result; ``None`` for one of an earlier version that does not record it."""
    if ORIGIN in stored.manifest:
        return dict(stored.manifest[ORIGIN])
    options = dataset_options(stored)
    return None if options is None else dataset_origin(options["name"], options)


def dataset_options(stored: Stored) -> dict[str, Any] | None:
    """Return the options of a run's dataset, from its report or, but for paths, from the record of that."""
    options = stored.manifest.get("settings", {}).get("options", {}).get("dataset") or stored.manifest.get("options")
    return None if options is None else dict(options)


def find_subject(given: str, everything: Mapping[str, Stored]) -> Subject:
    """Decide what a user named.

    Args:
        given: File of facts, name of a dataset, or a run: its report's folder, that folder's name, or its key.
        everything: All results of the store, and the records of removed ones, by key.

    Raises:
        UserError: There is nothing of this name.
    """
    reports = {key: each for key, each in everything.items() if each.stage == "report"}
    origins = [origin for each in everything.values() if (origin := origin_of(each)) is not None]
    digest = path_digest(given)
    if Path(given).is_file() or any(digest in each.get("files", {}).values() for each in origins):
        return Subject(file=digest)
    runs = [key for key, each in reports.items() if given == key or Path(given).name == tag(each)]
    if len(runs) == 1:
        return Subject(run=runs[0])
    names = sorted({str(each.get("name")) for each in origins})
    if given in names:
        return Subject(name=given)
    tags = [tag(each) for each in reports.values()]
    raise UserError(
        f"{given} is unknown: expected a file of facts, a dataset of this store ({', '.join(names) or 'none'}), or a "
        f"run's report such as outputs/reports/NAME{suggestion(Path(given).name, [*tags, *names])}"
    )


def tag(report: Stored) -> str:
    """Return the name of a run's files: its name with the start of its key."""
    name = report.manifest.get("name") or report.manifest.get("settings", {}).get("name", "")
    return f"{name}-{report.key[:6]}"


def is_root(subject: Subject, stored: Stored) -> bool:
    """Whether a result belongs to the subject by itself, not only because another one needs it."""
    if subject.run is not None:
        return stored.key == subject.run
    origin = origin_of(stored)
    return origin is not None and subject.matches(origin)
