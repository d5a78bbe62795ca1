"""Whether a folder is writable, valid file names, and file permissions."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

OTHERS = 0o077  # permissions of group and world
NAME_BYTES = 255  # of a file or folder, on all common file systems
PATH_BYTES = 3800  # of a path; Linux allows 4,096, and files within a folder need some of it
WHY = {
    errno.EACCES: "no write permission", errno.EPERM: "no write permission", errno.EROFS: "the disk is read-only",
    errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk is full",
}  # fmt: skip


def why_impossible(folder: Path) -> str | None:
    """Explain why a folder can never exist for any user; ``None`` if it exists or could be created."""
    absolute = _absolute(folder)
    if any(len(os.fsencode(part)) > NAME_BYTES for part in absolute.parts) or len(os.fsencode(absolute)) > PATH_BYTES:
        return f"names may have at most {NAME_BYTES} bytes and paths {PATH_BYTES}"
    nearest = _nearest_existing(absolute)
    if nearest.is_dir():
        return None
    return f"{nearest} is {'a dangling link' if nearest.is_symlink() else 'not a folder'}"


def why_unwritable(folder: Path) -> str | None:
    """Explain why a folder, existing or not, cannot be written to; ``None`` if it can.

    A nameless file is created where the folder is or would be: only that shows what a file system permits.
    """
    if (why := why_impossible(folder)) is not None:
        return why
    nearest = _nearest_existing(_absolute(folder))
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return None
    except OSError as error:
        return WHY.get(error.errno or 0, f"{nearest} accepts no files: {error.strerror}")


def _absolute(folder: Path) -> Path:
    return Path(os.path.abspath(folder))  # noqa: PTH100 - Path.resolve breaks at links that lead in a circle


def _nearest_existing(path: Path) -> Path:
    """Return the path itself or its nearest ancestor that exists."""
    return next(each for each in (path, *path.parents) if os.path.lexists(each))


def plain_name(text: object, *, most: int = 120) -> str:
    """Convert a text to a file name of at most ``most`` bytes; truncated names end in a digest to stay unique."""
    name = re.sub(r"[^\w.=-]+", "_", str(text))
    if len(os.fsencode(name)) <= most:
        return name
    mark = hashlib.sha256(os.fsencode(str(text))).hexdigest()[:8]
    return f"{os.fsencode(name)[: most - 9].decode(errors='ignore')}-{mark}"


@contextmanager
def owner_only(private: bool) -> Iterator[None]:
    """Make new files and folders of this process readable by their owner only, if ``private``.

    Otherwise the user's umask applies. The umask is process-wide, so it affects threads too.
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
    """Create a folder if necessary, with parents by the user's umask; a private one is readable by its owner only."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o777 & ~OTHERS if private else 0o777, exist_ok=True)
    if private:
        restrict_to_owner(folder)


def restrict_to_owner(path: Path) -> None:
    """Remove the permissions of group and world from a file, or a folder and its contents, except links."""
    set_permissions([path, *path.rglob("*")], private=True)


def set_permissions(paths: Iterable[Path], *, private: bool) -> None:
    """Give files and folders the permissions of the user's umask, or owner-only ones if private; skips links.

    Some writers create files readable only by their owner, but a store is shared.
    """
    mask = umask()
    for path in paths:
        if path.is_symlink():
            continue  # a user's model is not touched
        mode = path.stat().st_mode
        right = mode & ~OTHERS if private else mode | (0o777 if path.is_dir() else 0o666) & ~mask
        if right != mode:  # a link to another user's file must not be touched
            path.chmod(right)


def umask() -> int:
    """Return this process's umask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
