"""Failure records: the reason and full traceback of a failed run, kept in ``runs/failed`` until the run finishes."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meow_lightning.store.folders import owner_only, plain_name

NOTE_PREFIX = "full traceback: "  # marks a recorded error, so that a sweep does not record it again


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """A failure: its file, its time (seconds since 1970), and the reason in one line."""

    path: Path
    time: float
    why: str


def reason(error: BaseException) -> str:
    """Format an error as one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def record_failure(outputs: Path, name: str, error: Exception, *, private: bool) -> Path:
    """Write the record of a failure unless it was already recorded; returns its file.

    Args:
        outputs: Folder of everything the program writes.
        name: Tag of the failed run, which no other run has.
        error: The error that ended the run.
        private: Whether the message may contain texts of a private dataset.
    """
    recorded = [note for note in getattr(error, "__notes__", ()) if note.startswith(NOTE_PREFIX)]
    if recorded:
        return Path(recorded[0].removeprefix(NOTE_PREFIX))
    path = failure_file(outputs, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with owner_only(private):
        path.write_text(f"{reason(error)}\n\n{''.join(traceback.format_exception(error))}", encoding="utf-8")
    error.add_note(f"{NOTE_PREFIX}{path}")
    return path


@contextmanager
def recording_failures(outputs: Path, name: str, *, private: bool) -> Iterator[None]:
    """Record a failure inside the context; on success, remove the record of an earlier failure."""
    try:
        yield
    except Exception as error:
        record_failure(outputs, name, error, private=private)
        raise
    clear_failure(outputs, name)


def clear_failure(outputs: Path, name: str) -> None:
    """Remove the failure record of a run."""
    failure_file(outputs, name).unlink(missing_ok=True)


def last_failure(outputs: Path, name: str) -> FailureRecord | None:
    """Return the failure recorded for a run; ``None`` if there is none."""
    path = failure_file(outputs, name)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return FailureRecord(path, path.stat().st_mtime, lines[0] if lines else "for an unknown reason")
    except OSError:
        return None  # no record, or it has just been removed


def failure_file(outputs: Path, name: str) -> Path:
    """Return the file of the record of a failed run.

    Args:
        outputs: The output folder.
        name: The run's tag.
    """
    return outputs / "runs" / "failed" / f"{plain_name(name)}.txt"
