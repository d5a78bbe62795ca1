"""``meow-lightning verify-store``, also ``python -m meow_lightning.cli.verify_store``: verifies every stored result."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from meow_lightning.cli.command import reports_user_errors
from meow_lightning.config.program import program
from meow_lightning.errors import UserError
from meow_lightning.stages import stages
from meow_lightning.store.integrity import DamagedError, Integrity

DESCRIPTION = """\
Check every stored result against its manifest by reading all files completely. Nothing is changed: the next run that
needs a damaged result quarantines and recomputes it."""


class Damage(NamedTuple):
    """A stored result that differs from its manifest, and the reason."""

    folder: Path
    reason: str


def finished_results(store: Path) -> list[Path]:
    """List the folders of all finished results in a store, without partial and quarantined ones."""
    return sorted(
        path for name in stages() for path in (store / name).glob("*") if path.is_dir() and not path.suffix
    )  # fmt: skip


def find_damages(store: Path, folders: Sequence[Path]) -> list[Damage]:
    """Find the results that differ from their manifests, reading several at once."""
    integrity = Integrity(store, keep=False)

    def damage(folder: Path) -> str | None:
        try:
            integrity.check(folder, stage=folder.parent.name, key=folder.name, thorough=True)
        except DamagedError as error:
            return str(error) if folder.exists() else None  # quarantined by another process
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reasons = zip(folders, pool.map(damage, folders), strict=True)
        return [Damage(folder, reason) for folder, reason in reasons if reason is not None]


def verify(store: Path) -> tuple[int, list[Damage]]:
    """Verify a store; return the number of its results and the damaged ones.

    Raises:
        UserError: The folder does not exist.
    """
    if not store.is_dir():
        raise UserError(f"{store} is not a folder; pass the folder of a store, such as outputs/store")
    folders = finished_results(store)
    return len(folders), find_damages(store, folders)


@reports_user_errors
def main(arguments: Sequence[str]) -> int:
    """Run the command; return exit status 0 if all results are intact, 1 after a damaged result or a user error."""
    parser = argparse.ArgumentParser(prog=program("verify-store"), description=DESCRIPTION)
    parser.add_argument("store", type=Path, nargs="?", default=Path("outputs/store"), help="default: outputs/store")
    count, damages = verify(parser.parse_args(arguments).store)
    for damage in damages:
        sys.stdout.write(f"damaged: {damage.folder}: {damage.reason}\n")
    hint = "; the next run that needs them quarantines and recomputes them" if damages else ""
    sys.stdout.write(f"{count} results, {len(damages)} damaged{hint}\n")
    return int(bool(damages))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
