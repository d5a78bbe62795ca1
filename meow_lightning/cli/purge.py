"""``meow-lightning purge``, also ``python -m meow_lightning.cli.purge``: deletes a dataset's texts for good."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from meow_lightning.cli.command import reports_user_errors
from meow_lightning.config.program import program
from meow_lightning.errors import UserError, invalid_option, suggestion
from meow_lightning.pipeline.purge import Purge, plan_purge
from meow_lightning.pipeline.unreachable import unreachable
from meow_lightning.resources.format import format_bytes
from meow_lightning.store.text_search import WIDTH

DESCRIPTION = """\
Delete the texts of a dataset for good: from the store, the reports, logs and offline W&B runs. Numbers, curves and
the digests of what is deleted stay. Nothing is deleted without --yes; the list of files comes first. Afterwards every
remaining file is searched for the texts; the exit status is 1 if one still contains them."""
WORDS = ("outputs", "store")


def folders(words: Sequence[str]) -> tuple[Path, Path]:
    """Read the words ``outputs=FOLDER`` and ``store=FOLDER``; returns both folders.

    Raises:
        UserError: A word is neither.
    """
    given: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if name not in WORDS or not sign or not value:
            raise UserError(f"{word} is invalid: expected outputs=FOLDER or store=FOLDER{suggestion(name, WORDS)}")
        given[name] = value
    outputs = Path(os.path.abspath(given.get("outputs", "outputs")))  # noqa: PTH100 - links stay as they are
    store = Path(os.path.abspath(given["store"])) if "store" in given else outputs / "store"  # noqa: PTH100
    if not outputs.is_dir():
        raise invalid_option("outputs", given.get("outputs", "outputs"), "the folder that runs wrote to")
    return outputs, store


def listing(purge: Purge) -> list[str]:
    """List every file that is removed or rewritten, with sizes."""
    removed, base = purge.removed, purge.outputs
    lines = [_line("remove", path, base) for path in removed]
    lines += [_line("rewrite without its notes", path, base) for path in purge.rewritten]
    lines += [_line("keep", path, base) for path in purge.kept]
    if not removed:
        return [*lines, "no file to remove"]
    total = format_bytes(_size(removed))
    return [*lines, f"{len(removed)} files to remove ({total}), {len(purge.rewritten)} to rewrite"]


def _line(verb: str, path: Path, base: Path) -> str:
    shown = path.relative_to(base) if base in path.parents else path
    return f"{verb} {shown} ({format_bytes(path.lstat().st_size)})"


def _size(paths: Iterable[Path]) -> int:
    return sum(path.lstat().st_size for path in paths)


def searched(purge: Purge) -> list[str]:
    """Describe what is searched for, and what is not."""
    search = purge.search
    short = f"; {search.too_short} with fewer than {WIDTH} letters and digits are not searched for" * bool(
        search.too_short
    )
    lines = [f"searched for: {search.searched} questions and answers of the dataset{short}"]
    return lines + [f"not read, so that texts in it alone are not searched for: {why}" for why in purge.texts.unread]


def purge_texts(what: str, words: Sequence[str], *, models: bool, delete: bool) -> int:
    """Print what is removed and what cannot be, and remove it if asked to.

    Args:
        what: The dataset or run.
        words: Further words, ``outputs=`` and ``store=``.
        models: Whether to remove the models that learned the facts.
        delete: Whether to delete anything.

    Returns:
        The exit status: 1 if a file still contains a text after the removal.

    Raises:
        UserError: The dataset or run is unknown, or a run is computing on it.
    """
    outputs, store = folders(words)
    purge = plan_purge(what, outputs=outputs, store=store, models=models)
    names = ", ".join(purge.run_names) or "no finished run"
    _say([f"{what}: {names}", *listing(purge)])
    _say([f"not reached: {line}" for line in unreachable(purge, models=models)])
    _say(searched(purge))
    if not delete:
        _say(["nothing was deleted; the same command with --yes deletes"])
        return 0
    purge.remove()
    left = purge.remaining()
    sys.stderr.writelines(f"error: {path} still contains texts of it\n" for path in left)
    if left:
        sys.stderr.write(f"error: {len(left)} files still contain texts: of other runs of the same facts, if listed\n")
        return 1
    checked = "no remaining file contains a text of it" if purge.search.searched else "no text is known to search for"
    _say([f"deleted; {checked}; its numbers are where they were"])
    return 0


def _say(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


@reports_user_errors
def main(arguments: Sequence[str]) -> int:
    """Run the command; return exit status 0, or 1 after a user error or if texts remain."""
    parser = argparse.ArgumentParser(prog=program("purge"), description=DESCRIPTION)
    parser.add_argument(
        "what", metavar="DATASET|RUN",
        help="file of facts, name of a dataset, or a run: outputs/reports/NAME, NAME alone, or its key",
    )  # fmt: skip
    parser.add_argument("words", nargs="*", metavar="outputs=FOLDER", help="where runs wrote to; also store=FOLDER")
    parser.add_argument("--models", action="store_true", help="remove the models that learned the facts too")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--yes", action="store_true", help="delete")
    chosen.add_argument("--dry-run", action="store_true", help="list alone, as without --yes")
    given = parser.parse_intermixed_args(arguments)
    return purge_texts(given.what, given.words, models=given.models, delete=given.yes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
