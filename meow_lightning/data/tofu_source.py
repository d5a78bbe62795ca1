"""Source of TOFU's files: a local folder, or one revision of the dataset on the Hugging Face hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from meow_lightning.data.jsonl_reader import Entry, read_entries
from meow_lightning.errors import UserError

LOCALLY = "set MEOW_DATA_DIR to a folder that holds tofu/full.json and the other files, or dataset.folder=FOLDER"


class FolderSource:
    """Reader of the published files, JSON lines or one list each."""

    def __init__(self, option: str, folder: Path, needed: Sequence[str]) -> None:
        self._option, self._folder = option, folder
        if not folder.is_dir():
            files = ", ".join(f"{name}.json" for name in needed)
            raise UserError(f"{option}={folder} is not a folder; give one with TOFU's {files}")
        self._check(needed)

    def where(self, name: str) -> str:
        """Name a configuration's file, for messages."""
        return f"{self._option}={self._folder / name}.json"

    def read(self, name: str) -> list[Entry]:
        """Read the rows of a configuration."""
        self._check([name])
        entries = read_entries(self._folder / f"{name}.json", option=self._option, holds="a question and its answer")
        return [row for _, row in entries]

    def _check(self, needed: Sequence[str]) -> None:
        missing = [f"{name}.json" for name in needed if not (self._folder / f"{name}.json").is_file()]
        if missing:
            raise UserError(
                f"{self._option}={self._folder} lacks {', '.join(missing)} of TOFU; add the missing files, "
                "or set dataset.folder=FOLDER to a folder with all of them"
            )


class HubSource:
    """Reader of the dataset on the hub at one revision, or of its cached copy if the hub is unreachable."""

    def __init__(self, hub: str) -> None:
        self._id, _, self._revision = hub.partition("@")
        if not (self._id and self._revision):
            raise UserError(f"dataset.hub={hub} is invalid: expected id@revision; a revision keeps results comparable")
        self._hub, self._hub_error = hub, _connection_error(self._id, self._revision)

    def where(self, name: str) -> str:
        """Name a configuration, for messages."""
        return f"dataset.hub={self._hub}, configuration {name}"

    def read(self, name: str) -> list[Entry]:
        """Read the rows of a configuration."""
        import datasets
        from huggingface_hub.errors import HTTPError

        try:
            with _offline() if self._hub_error else nullcontext():
                table = datasets.load_dataset(self._id, name, split="train", revision=self._revision)
        except (OSError, ValueError, HTTPError, datasets.exceptions.DatasetsError) as error:
            raise self._failure(name, error) from error
        # Offline, datasets loads the newest cached copy of any revision; a branch name has no folder to compare.
        folders = [part for file in table.cache_files for part in Path(file["filename"]).parts]
        if self._hub_error and re.fullmatch("[0-9a-f]{40}", self._revision) and self._revision not in folders:
            raise self._failure(name, self._hub_error)
        return [dict(row) for row in table]

    def _failure(self, name: str, error: Exception) -> UserError:
        import datasets
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

        if self._hub_error is None:
            return UserError(f"{self.where(name)} cannot be read ({_line(error)}); try again, or {LOCALLY}")
        reason = _line(self._hub_error)
        if isinstance(self._hub_error, (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError)):
            return UserError(f"dataset.hub={self._hub} is not on the hub ({reason}); correct it, or {LOCALLY}")
        return UserError(
            f"TOFU ({self._id}) is neither in the cache ({datasets.config.HF_DATASETS_CACHE}) nor can the hub "
            f"be reached ({reason}); connect once, or {LOCALLY}"
        )


def tofu_source(folder: str | None, hub: str, needed: Sequence[str]) -> FolderSource | HubSource:
    """Choose the source: the given folder, the folder ``tofu`` in ``$MEOW_DATA_DIR`` if it exists, else the hub.

    Args:
        folder: Folder of the files; ``None`` for none.
        hub: ``id@revision`` of the dataset on the hub.
        needed: Names of the configurations that must be there.

    Raises:
        UserError: The folder lacks a file, or ``hub`` names no revision.
    """
    if folder is not None:
        return FolderSource("dataset.folder", Path(folder).expanduser(), needed)
    data_dir = os.environ.get("MEOW_DATA_DIR")
    if data_dir and (Path(data_dir) / "tofu").is_dir():
        return FolderSource("MEOW_DATA_DIR", Path(data_dir) / "tofu", needed)
    return HubSource(hub)


def _connection_error(dataset: str, revision: str) -> Exception | None:
    """Return why the hub is unreachable, or ``None``. Without this check, datasets retries for half a minute."""
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
    """Make datasets use only its cache, without a warning for every configuration."""
    import datasets

    before, verbosity = datasets.config.HF_HUB_OFFLINE, datasets.logging.get_verbosity()
    datasets.config.HF_HUB_OFFLINE = True
    datasets.logging.set_verbosity_error()
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before
        datasets.logging.set_verbosity(verbosity)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
