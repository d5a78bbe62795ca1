"""Whether a folder can be written into."""

from __future__ import annotations

import os
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
