"""Why a cell failed, kept in ``runs/failed`` until it finishes: a line for people, then the whole traceback."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meow_lightning.store.folders import owner_only, plain_name

NOTE = "the whole story: "  # goes with an error that was told, so that a sweep does not tell it again


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """A failure: where it is told, when that was (seconds since 1970), and why in one line."""

    path: Path
    time: float
    why: str


def reason(error: BaseException) -> str:
    """An error in one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def record_failure(outputs: Path, name: str, error: Exception, *, private: bool) -> Path:
    """The file that tells of a failure; written, unless somebody has told it already.

    Args:
        outputs: Folder of everything the program writes.
        name: Whose failure: a cell's tag, or its words in a sweep.
        error: What went wrong.
        private: Whether its text may hold texts of a dataset that is not public.
    """
    told = [note for note in getattr(error, "__notes__", ()) if note.startswith(NOTE)]
    if told:
        return Path(told[0].removeprefix(NOTE))
    path = _path(outputs, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with owner_only(private):
        path.write_text(f"{reason(error)}\n\n{''.join(traceback.format_exception(error))}", encoding="utf-8")
    error.add_note(f"{NOTE}{path}")
    return path


@contextmanager
def recording_failures(outputs: Path, name: str, *, private: bool) -> Iterator[None]:
    """A context whose failure is told; where it ends well, what was told before is taken away."""
    try:
        yield
    except Exception as error:
        record_failure(outputs, name, error, private=private)
        raise
    clear_failure(outputs, name)


def clear_failure(outputs: Path, name: str) -> None:
    """Take away what is told of somebody."""
    _path(outputs, name).unlink(missing_ok=True)


def last_failures(outputs: Path, names: Sequence[str]) -> FailureRecord | None:
    """The last failure told under any of some names."""
    found: list[FailureRecord] = []
    for path in {_path(outputs, name) for name in names}:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            found.append(
                FailureRecord(path, path.stat().st_mtime, lines[0] if lines else "for no reason that was told")
            )
        except OSError:
            continue  # nothing was told, or it has just been taken away
    return max(found, key=lambda story: story.time, default=None)


def _path(outputs: Path, name: str) -> Path:
    return outputs / "runs" / "failed" / f"{plain_name(name)}.txt"
