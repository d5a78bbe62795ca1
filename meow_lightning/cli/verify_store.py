"""``meow-lightning verify-store``, also ``python -m meow_lightning.cli.verify_store``: check every stored result."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from meow_lightning.config.program import program
from meow_lightning.errors import UserError
from meow_lightning.stages import NAMES
from meow_lightning.store.integrity import DamagedError, Integrity

DESCRIPTION = """\
Checks every stored result against its manifest. Whole files are read, whatever the file system says of them. Nothing is
changed: the next run that needs a damaged result sets it aside and makes it anew."""


class Damage(NamedTuple):
    """A stored result that is not what was sealed, and why."""

    folder: Path
    why: str


def finished_results(store: Path) -> list[Path]:
    """The folders of all finished results in a store, not those that are being made or were set aside."""
    return sorted(
        path for name in NAMES for path in (store / name).glob("*") if path.is_dir() and not path.suffix
    )  # fmt: skip


def find_damages(store: Path, folders: Sequence[Path]) -> list[Damage]:
    """Those of some results that are not what was sealed; several are read at once."""
    integrity = Integrity(store, keep=False)

    def look(folder: Path) -> str | None:
        try:
            integrity.check(folder, stage=folder.parent.name, key=folder.name, thorough=True)
        except DamagedError as error:
            return str(error) if folder.exists() else None  # set aside in the meantime
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = zip(folders, pool.map(look, folders), strict=True)
        return [Damage(folder, why) for folder, why in found if why is not None]


def verify(store: Path) -> tuple[int, list[Damage]]:
    """(how many results a store holds, those that are damaged).

    Raises:
        UserError: There is no such folder.
    """
    if not store.is_dir():
        raise UserError(f"{store} is no folder; give that of a store, such as outputs/store")
    folders = finished_results(store)
    return len(folders), find_damages(store, folders)


def main(arguments: Sequence[str]) -> int:
    """The exit status of the command: 0 where all is whole, 1 after a damaged result or a mistake."""
    parser = argparse.ArgumentParser(prog=program("verify-store"), description=DESCRIPTION)
    parser.add_argument("store", type=Path, nargs="?", default=Path("outputs/store"), help="default: outputs/store")
    try:
        count, found = verify(parser.parse_args(arguments).store)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    for damage in found:
        sys.stdout.write(f"damaged: {damage.folder}: {damage.why}\n")
    end = "; a run that needs them sets them aside and makes them anew" if found else ""
    sys.stdout.write(f"{count} results, {len(found)} damaged{end}\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
