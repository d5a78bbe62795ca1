"""A finished run by the name of its report: what the store holds of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError, suggestion
from meow_lightning.store.integrity import MANIFEST
from meow_lightning.store.jsonl import read_json


def report_of(run: Path, store: Path | None) -> tuple[Path, dict[str, Any]]:
    """Find the store of a run and the manifest of its report.

    Args:
        run: The run's folder in ``reports``, or the name of that folder.
        store: Folder of the store; ``None`` for ``store`` beside ``reports``.

    Raises:
        UserError: There is no such run, or the store does not have it.
    """
    report = run if run.is_dir() else Path("outputs/reports") / run
    if not report.is_dir():
        names = [path.name for path in sorted(report.parent.glob("*")) if path.is_dir()]
        raise UserError(
            f"RUN={run} is invalid: expected a folder of reports such as outputs/reports/NAME, or the folder of an "
            f"unlearned model{suggestion(run.name, names)}"
        )
    root = report.resolve().parent.parent / "store" if store is None else store
    short = report.resolve().name.rpartition("-")[2]
    manifests = sorted((root / "report").glob(f"{short}*/{MANIFEST}")) if short else []
    if not manifests:
        raise UserError(
            f"RUN={run}: the store {root} has no result of this run; name the store that it used with --store"
        )
    return root, read_json(manifests[-1])


def model_of(run: Path, root: Path, report: dict[str, Any], role: str) -> Path:
    """Return the stored result of one of a run's models.

    Args:
        run: The run, for messages.
        root: Its store.
        report: The manifest of its report.
        role: ``base``, ``target``, ``unlearned`` or ``retain``; one that the run has.

    Raises:
        UserError: The model is no longer in the store.
    """
    key = report["needs"][role]
    for stage in ("unlearn", "finetune"):
        if (root / stage / key / MANIFEST).is_file():
            return root / stage / key
    raise UserError(f"RUN={run}: its {role} model ({key}) is no longer in the store {root}; run its command line again")
