"""Who may write into a folder, and who may read what is written into it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def unwritable(folder: Path) -> str | None:
    """Why nothing can be written into a folder that may yet have to be made, ``None`` when it can."""
    there = next(each for each in (folder, *folder.resolve().parents) if _exists(each))
    if not there.is_dir():
        return f"{there} is no folder"
    return None if os.access(there, os.W_OK | os.X_OK) else "no write permission"


def _exists(path: Path) -> bool:
    """Whether a path is there, as far as this user may see; what lies in a closed folder is not."""
    try:
        return path.exists()
    except PermissionError:
        return False


OTHERS = 0o077  # the rights of group and world


@contextmanager
def owner_only(private: bool) -> Iterator[None]:
    """While it lasts, new files and folders of this process are their owner's alone where ``private``.

    Where not, they are as the user's umask says. The umask is the whole process's, so threads see it too.
    """
    if not private:
        yield
        return
    before = os.umask(OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def make_folder(folder: Path, *, private: bool) -> None:
    """Make a folder that may be there already, its parents by the user's umask; a private one is its owner's alone."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o777 & ~OTHERS if private else 0o777, exist_ok=True)
    if private:
        close_to_others(folder)


def close_to_others(path: Path) -> None:
    """Take the rights of group and world from a file, or from a folder and all in it; links are left alone."""
    set_rights([path, *path.rglob("*")], private=True)


def set_rights(paths: Iterable[Path], *, private: bool) -> None:
    """Give files and folders the rights that the user's umask leaves, private ones their owner's alone; skips links.

    Some writers make files that their owner alone can read, and a store is shared.
    """
    mask = umask()
    for path in paths:
        if path.is_symlink():
            continue  # a user's model stays as it is
        mode = path.stat().st_mode
        right = mode & ~OTHERS if private else mode | (0o777 if path.is_dir() else 0o666) & ~mask
        if right != mode:  # a link to somebody else's file must be left as it is
            path.chmod(right)


def umask() -> int:
    """What this process takes away from the rights of a new file."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
