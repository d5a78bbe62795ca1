"""Whether a folder can be written into, what may be the name of a file, and who may read what is written."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

OTHERS = 0o077  # the rights of group and world
NAME_BYTES = 255  # of a file or folder, on all common file systems
PATH_BYTES = 3800  # of a whole path; Linux takes 4,096, and what is written into a folder has names of its own
WHY = {
    errno.EACCES: "no write permission", errno.EPERM: "no write permission", errno.EROFS: "the disk is read-only",
    errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk is full",
}  # fmt: skip


def why_impossible(folder: Path) -> str | None:
    """Why a folder can never be there, whoever asks; ``None`` when it is, or may be made by somebody."""
    whole = _whole(folder)
    if any(len(os.fsencode(part)) > NAME_BYTES for part in whole.parts) or len(os.fsencode(whole)) > PATH_BYTES:
        return f"names may have {NAME_BYTES} bytes and paths {PATH_BYTES}"
    existing = _nearest(whole)
    if existing.is_dir():
        return None
    return f"{existing} is {'a link that leads to no folder' if existing.is_symlink() else 'no folder'}"


def why_unwritable(folder: Path) -> str | None:
    """Why nothing can be written into a folder that may yet have to be made, ``None`` when it can.

    A file without a name is made where the folder is or would be, for only that shows what a file system takes.
    """
    if (why := why_impossible(folder)) is not None:
        return why
    existing = _nearest(_whole(folder))
    try:
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return WHY.get(error.errno or 0, f"{existing} takes no files: {error.strerror}")


def _whole(folder: Path) -> Path:
    return Path(os.path.abspath(folder))  # noqa: PTH100 - Path.resolve breaks at links that lead in a circle


def _nearest(whole: Path) -> Path:
    """The folder itself, or the first above it that is there."""
    return next(each for each in (whole, *whole.parents) if os.path.lexists(each))


def plain_name(text: object, *, most: int = 120) -> str:
    """A text as a file's name of at most ``most`` bytes; one that is cut ends in a digest, so that no two are alike."""
    name = re.sub(r"[^\w.=-]+", "_", str(text))
    if len(os.fsencode(name)) <= most:
        return name
    mark = hashlib.sha256(os.fsencode(str(text))).hexdigest()[:8]
    return f"{os.fsencode(name)[: most - 9].decode(errors='ignore')}-{mark}"


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
        restrict_to_owner(folder)


def restrict_to_owner(path: Path) -> None:
    """Take the rights of group and world from a file, or from a folder and all in it; links are left alone."""
    set_permissions([path, *path.rglob("*")], private=True)


def set_permissions(paths: Iterable[Path], *, private: bool) -> None:
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
