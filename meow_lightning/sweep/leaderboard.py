"""Leaderboard of a store: reads every finished run from its report and its metrics, and writes the files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError
from meow_lightning.report.leaderboard import Entry, Group, as_csv, grouped, markdown, page
from meow_lightning.report.sweep_tables import Nested, by_row
from meow_lightning.store.durable import write_text
from meow_lightning.store.folders import make_folder, owner_only
from meow_lightning.store.integrity import MANIFEST, DamagedError, Integrity
from meow_lightning.sweep.seed_spread import interval_over_seeds
from meow_lightning.tracking.disclosure import PAGE, SHAREABLE, shareable

FOLDER = "leaderboard"  # in the folder of reports


@dataclass(frozen=True, slots=True)
class Stored:
    """A finished run of a store.

    Attributes:
        entry: What the leaderboard shows of it.
        folder: The stored metrics.
        private: Whether its dataset is private.
        finished: When its report was written, in seconds since 1970.
    """

    entry: Entry
    folder: Path
    private: bool
    finished: float


def write_leaderboard(store: Path, reports: Path) -> tuple[Path, str]:
    """Write ``leaderboard.html``, ``leaderboard.md`` and ``leaderboard.csv``.

    Args:
        store: The store.
        reports: The folder of reports, which gets a folder ``leaderboard``.

    Returns:
        The page, and a sentence on what it shows.

    Raises:
        UserError: The store has no finished run.
    """
    runs, skipped = stored_runs(store, reports)
    if not runs:
        raise UserError(
            f"the store {store} has no finished run{f' that can be read ({skipped} cannot)' * bool(skipped)}; "
            "name another with outputs=FOLDER or store=FOLDER"
        )
    groups = grouped(run.entry for run in runs)
    folders = {run.entry.key: run.folder for run in runs}
    shown = [(group, _intervals(group, folders)) for group in groups]
    line = (
        f"{_counted(len(runs), 'finished run')} in {_counted(len(groups), 'group')}; only runs of one group may be "
        "compared: they have the same dataset, split, model, measure and version of the evaluation"
        + f"; {_counted(skipped, 'run')} left out, whose results are missing or unreadable" * bool(skipped)
        + "."
    )
    folder, private = reports / FOLDER, any(run.private for run in runs)
    make_folder(folder, private=private)
    with owner_only(private):
        write_text(folder / "leaderboard.csv", as_csv(shown))
        write_text(folder / "leaderboard.md", markdown(shown, [line]))
        write_text(folder / "leaderboard.html", page(shown, [line]))
    return folder / "leaderboard.html", line


def stored_runs(store: Path, reports: Path) -> tuple[list[Stored], int]:
    """Read the finished runs of a store, and count those that cannot be read.

    Of several reports on the same metrics, the latest counts.

    Args:
        store: The store.
        reports: The folder of the published reports.
    """
    integrity, latest, skipped = Integrity(store, keep=False), dict[str, Stored](), 0
    for path in sorted(store.glob(f"report/*/{MANIFEST}")):
        if path.parent.suffix:
            continue  # in progress, or set aside
        try:
            run = _read(integrity, path.parent, store, reports)
        except (DamagedError, OSError, ValueError, KeyError, TypeError):
            skipped += 1
            continue
        key = run.folder.name
        if key not in latest or latest[key].finished < run.finished:
            latest[key] = run
    return list(latest.values()), skipped


def _read(integrity: Integrity, folder: Path, store: Path, reports: Path) -> Stored:
    """Read a run.

    Raises:
        DamagedError: Its report or its metrics are missing or differ from what was sealed.
    """
    from meow_lightning.stages.results.evaluate import EvaluateResult

    manifest = integrity.check(folder, stage="report", key=folder.name)
    settings, needs = manifest["settings"], manifest["needs"]
    metrics = store / "evaluate" / settings["results_key"]
    evaluated = integrity.check(metrics, stage="evaluate", key=metrics.name)
    found = EvaluateResult.read(metrics)
    public = bool(settings["public"])
    address = Path(f"{settings['name']}-{manifest['key'][:6]}") / (PAGE if public else SHAREABLE)
    entry = Entry(
        key=manifest["key"], options=settings["options"] if public else shareable(settings["options"]),
        evaluated=_evaluated(evaluated, settings), results=found.results,
        intervals=found.intervals.get("unlearned", {}),
        reference=needs["unlearned"] in (needs["target"], needs.get("retain")),
        page=f"../{address.as_posix()}" if (reports / address).is_file() else "",
    )  # fmt: skip
    return Stored(entry, metrics, not public, manifest["finished"])


def _evaluated(manifest: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    """Describe the evaluation beyond the options: its versions, its number of questions, and a disclaimer if any."""
    versions = json.dumps(manifest["components"], sort_keys=True)
    described = {
        "evaluation version": str(manifest["version"]),
        "metric versions": hashlib.sha256(versions.encode()).hexdigest()[:6],
        "questions to forget": str(manifest["items"]),
    }
    if settings["disclaimer"]:
        described["disclaimer"] = settings["disclaimer"] if settings["public"] else "in the reports"
    return described


def _intervals(group: Group, folders: Mapping[str, Path]) -> Nested:
    """Compute the interval of every row: over questions of a single run, over seeds and questions of several."""
    return {name: _interval(entries, folders) for name, entries in by_row(group.entries.items()).items()}


def _interval(entries: Sequence[Entry], folders: Mapping[str, Path]) -> Mapping[str, Sequence[float]]:
    if len(entries) == 1:
        return entries[0].intervals
    level = entries[0].options["evaluation"]["confidence_level"]
    return interval_over_seeds([folders[entry.key] for entry in entries], confidence_level=level)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
