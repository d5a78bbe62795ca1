"""``meow-lightning undo``, also ``python -m meow_lightning.cli.undo``: restores the start model of a run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from meow_lightning.cli.command import reports_user_errors
from meow_lightning.cli.finished_run import model_of, report_of
from meow_lightning.config.program import program
from meow_lightning.errors import UserError
from meow_lightning.stages.results.model import UNDO, model_folder
from meow_lightning.store.integrity import MANIFEST
from meow_lightning.store.jsonl import read_json

DESCRIPTION = """\
Restore the model that a run started from, bit for bit, from the unlearned model and the undo file beside it. Methods
that switch off single weights (method=balanced_subnet, method=subnet) write such a file. Nothing in the store is
changed."""


def unlearned_result(run: Path, store: Path | None) -> Path:
    """Find the stored result of a run's unlearned model.

    Args:
        run: The run's folder in ``reports``, the name of that folder, or the stored unlearned model.
        store: Folder of the store; ``None`` for ``store`` beside ``reports``.

    Raises:
        UserError: There is no such run, or its unlearned model is not in the store.
    """
    for stored in (run, run.parent):
        if (stored / MANIFEST).is_file() and stored.parent.name == "unlearn":
            return stored
    root, report = report_of(run, store)
    return model_of(run, root, report, "unlearned")


def undo(run: Path, *, store: Path | None, target: Path | None) -> str:
    """Restore the start model of a run; returns a sentence on what was written.

    Args:
        run: As of :func:`unlearned_result`.
        store: Likewise.
        target: Folder to create; ``None`` for ``restored/NAME`` beside the store.

    Raises:
        UserError: The run has no undo file, or it cannot be applied.
    """
    from meow_lightning.models.undo import restore

    stored = unlearned_result(run, store)
    if not (stored / UNDO).is_file():
        method = read_json(stored / MANIFEST)["settings"].get("method", {}).get("_target_", "").rpartition(".")[2]
        raise UserError(
            f"RUN={run}: {f'{method} changes' if method else 'it changes'} weights without an undo file; only methods "
            "that switch off single weights write one, such as method=balanced_subnet; the model that it started from "
            "is in the store (folder finetune)"
        )
    name = stored.name if run.resolve() in (stored.resolve(), model_folder(stored).resolve()) else run.name
    folder = stored.resolve().parent.parent.parent / "restored" / name if target is None else target
    folder.parent.mkdir(parents=True, exist_ok=True)
    count = restore(model_folder(stored), stored / UNDO, folder)
    return f"restored {count} weights; the start model, bit for bit: {folder}"


@reports_user_errors
def main(arguments: Sequence[str]) -> int:
    """Run the command; return exit status 0, or 1 after a user error."""
    parser = argparse.ArgumentParser(prog=program("undo"), description=DESCRIPTION)
    parser.add_argument(
        "run", type=Path, metavar="RUN",
        help="folder of the run's report (outputs/reports/NAME, or NAME alone), or of its unlearned model",
    )  # fmt: skip
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="folder to create (default: outputs/restored/NAME)")
    parser.add_argument("--store", type=Path, metavar="FOLDER", help="store of the run (default: beside its reports)")
    options = parser.parse_args(arguments)
    sys.stdout.write(undo(options.run, store=options.store, target=options.to) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
