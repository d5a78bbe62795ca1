"""report: everything a cell produced in, one page, tables and pictures out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from meow_lightning.evaluation.suite import results_from_json
from meow_lightning.report.cells import Cell
from meow_lightning.report.page import write_report
from meow_lightning.stages.evaluate import answers, scores
from meow_lightning.stages.work import Work, read_lines, remarks
from meow_lightning.store import MANIFEST
from meow_lightning.types import InvertedFact

VERSION = 4
MAKES = ("report.html", "table.md", "table.csv")


def run(work: Work) -> None:
    """Write ``report.html``, ``table.md``, ``table.csv`` and ``figures/``."""
    needs = dict(work.needs)
    results = json.loads((needs["results"] / "results.json").read_text(encoding="utf-8"))
    inverted = read_lines(needs["inverted"] / "inverted.jsonl") if "inverted" in needs else []
    selected = read_lines(needs["unlearned"] / "selected.jsonl")
    manifests = {name: json.loads((path / MANIFEST).read_text(encoding="utf-8")) for name, path in needs.items()}
    cell = Cell(
        name=work.settings["name"], key=work.settings["cell"], settings=work.settings["options"],
        settings_origin=work.settings["origin"], results=results_from_json(results), rows=answers(work),
        memo=scores(needs), selected={row["fact"]: row["positions"] for row in selected},
        inverted=[InvertedFact(**row) for row in inverted],
        curves={
            manifest["label"]: points
            for name, manifest in manifests.items()
            if (points := list(read_lines(needs[name] / "metrics.jsonl")))
        },
        stages=[
            {"label": _label(m, needs[name]), "key": m["key"], "seconds": m["seconds"]}
            for name, m in manifests.items()
        ],
        weights=f"store/{manifests['unlearned']['stage']}/{manifests['unlearned']['key']}/model",
        texts=work.settings["texts"], warning=work.settings["warning"] or "",
        notes=work.settings["notes"],
    )  # fmt: skip
    write_report(cell, work.folder)


def _label(manifest: dict[str, Any], folder: Path) -> str:
    """Stage and whose result it is, and what is to be said of its making."""
    said = _cleaning(folder) if manifest["stage"] == "invert" else remarks(manifest)
    return f"{manifest['stage']} {manifest['label']}".strip() + (f" ({'; '.join(said)})" if said else "")


def _cleaning(folder: Path) -> list[str]:
    """How many inverted facts were written, kept and dropped, and why."""
    counts = json.loads((folder / "cleaning.json").read_text(encoding="utf-8"))
    dropped = ", ".join(f"{count} {reason}" for reason, count in counts["dropped"].items() if count) or "none"
    return [f"{counts['written']} written, {counts['kept']} kept", f"dropped: {dropped}"]
