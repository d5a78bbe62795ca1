"""report: write a page, tables and figures about a run, and a second page to share if its texts are private."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from meow_lightning.evaluation.suite.suite import results_from_json
from meow_lightning.inversion.candidates import shortage_notes
from meow_lightning.report.data import Dropped, Loop, ReportData, Round
from meow_lightning.report.page import write_report
from meow_lightning.report.rounds import sentence
from meow_lightning.report.seed_spread import Spread
from meow_lightning.stages.base import StageContext, manifest_notes, mixed_versions
from meow_lightning.stages.common.carry_over import SAME
from meow_lightning.stages.common.needs import ReportInputs, RoundInputs
from meow_lightning.stages.common.training import TRAINED_ON
from meow_lightning.stages.evaluate import answers, scores
from meow_lightning.store.durable import write_json
from meow_lightning.store.integrity import MANIFEST
from meow_lightning.store.jsonl import read_json, read_lines, write_lines
from meow_lightning.tracking.disclosure import shareable
from meow_lightning.types import InvertedFact

VERSION = 7
MAKES = ("report.html", "table.md", "table.csv")
# Replaces the notes in the shareable page.
ELSEWHERE = "Notes on the models and facts behind these numbers are in the full report, which stays with its owner."
DISCLAIMED = "A disclaimer applies to these numbers; it is in the full report, which stays with its owner."


def run(work: StageContext) -> None:
    """Write ``report.html``, ``table.md``, ``table.csv``, ``figures/`` and, for private texts, ``shareable.html``."""
    inputs = ReportInputs.from_needs(work.needs)
    results = read_json(inputs.results / "results.json")
    inverted = read_lines(inputs.filtered / "inverted.jsonl") if inputs.filtered else []
    selected = read_lines(inputs.models.unlearned / "selected.jsonl")
    manifests = {folder: read_json(folder / MANIFEST) for folder in work.needs.values()}
    unlearned, loop = manifests[inputs.models.unlearned], _loop(work, inputs)
    if loop is not None:
        write_lines(work.folder / "metrics.jsonl", map(_point, loop.rounds))  # read by the trackers
        write_json(work.folder / "rounds.json", _rounds_content(loop))
    selection_fraction = work.settings["options"]["evaluation"]["selection_fraction"]
    data = ReportData(
        name=work.settings["name"], key=work.settings["results_key"], settings=work.settings["options"],
        settings_origin=work.settings["origin"], results=results_from_json(results),
        rows=answers(work, selection_fraction=selection_fraction),
        memo=scores(inputs.evaluation), selected={row["fact"]: row["positions"] for row in selected},
        inverted=[InvertedFact(**row) for row in inverted], dropped=_dropped(inputs),
        curves={
            manifests[model]["label"]: points
            for model in inputs.models.present
            if (points := list(read_lines(model / "metrics.jsonl")))
        },
        stages=[
            {"label": _label(manifest, folder), "key": manifest["key"], "seconds": manifest["seconds"]}
            for folder, manifest in manifests.items()
        ],
        weights=f"store/{unlearned['stage']}/{unlearned['key']}/model",
        public=work.settings["public"], texts=True, disclaimer=work.settings["disclaimer"] or "",
        notes=[*work.settings["notes"], *_shortages(work, inputs), *mixed_versions(manifests.values())], loop=loop,
        spread=None if (spread := work.settings.get("spread")) is None else Spread(**spread),
        intervals=read_json(inputs.results / "intervals.json"),
    )  # fmt: skip
    write_report(data, work.folder, shareable=None if data.public else _shareable(data, manifests))


def _shareable(data: ReportData, manifests: Mapping[Path, dict[str, Any]]) -> ReportData:
    """Remove dataset texts, free text and paths from the data, also notes, which may quote them."""
    bare = {manifest["key"]: f"{manifest['stage']} {manifest['label']}".strip() for manifest in manifests.values()}
    return replace(
        data, texts=False, settings=shareable(data.settings), rows={}, inverted=[],
        dropped=Dropped(counts={}, examples={}),
        stages=[{**stage, "label": bare[stage["key"]]} for stage in data.stages],
        disclaimer=DISCLAIMED if data.disclaimer else "", notes=[ELSEWHERE] if data.notes else [],
    )  # fmt: skip


def _dropped(inputs: ReportInputs[Path]) -> Dropped:
    """Read what filtering dropped in the last round; empty for a method without inverted facts."""
    if inputs.filtered is None:
        return Dropped(counts={}, examples={})
    summary = read_json(inputs.filtered / "cleaning.json")
    return Dropped(counts=summary["dropped"], examples=summary["examples"])


def _loop(work: StageContext, inputs: ReportInputs[Path]) -> Loop | None:
    """Collect the rounds up to the last one with requests; ``None`` for a method without rounds."""
    options = work.settings["options"]
    repetition = options["method"].get("rounds")
    if repetition is None:
        return None
    every = [
        _round(each, number, memorized_above=repetition["memorized_above"])
        for number, each in enumerate(inputs.rounds, start=1)
    ]
    rounds = tuple(each for each in every if each.number == 1 or each.queried)
    last = rounds[-1]
    if not last.still_memorized:
        ended = "below"
    elif last.same:
        ended = "silent"
    else:
        ended = "rounds" if len(rounds) == len(every) else "budget"
    measure = {"ma": "MA", "el": "EL"}.get(options["memo"]["name"], "MEMO")
    measure += f" by {repetition['cut_unit']}" if repetition["cut_unit"] else ""
    return Loop(memorized_above=repetition["memorized_above"], rounds=rounds, ended=ended, measure=measure)


def _rounds_content(loop: Loop) -> dict[str, Any]:
    """Convert the rounds to the content of ``rounds.json``, which names the queried facts as ``asked.json`` does."""
    rounds = [{"asked" if name == "queried" else name: v for name, v in asdict(one).items()} for one in loop.rounds]
    return {"sentence": sentence(loop), **asdict(loop), "rounds": rounds}


def _round(folders: RoundInputs[Path], number: int, *, memorized_above: float) -> Round:
    requested, filtering = read_json(folders.proposed / "asked.json"), read_json(folders.filtered / "cleaning.json")
    scores = [row["score"] for row in read_lines(folders.scores / "scores.jsonl")]
    return Round(
        number=number, queried=requested["facts"], calls=requested["calls"], written=filtering["written"],
        kept=filtering["kept"],
        trained=sum(len(row["positions"]) for row in read_lines(folders.unlearned / "selected.jsonl")),
        still_memorized=sum(score > memorized_above for score in scores), facts=len(scores),
        memo=sum(scores) / len(scores), worst=max(scores),
        tokens=requested["prompt_tokens"] + requested["completion_tokens"],
        same=(folders.unlearned / SAME).exists(),
    )  # fmt: skip


def _point(each: Round) -> dict[str, float]:
    """Convert a round to a point of a curve."""
    return {
        "step": each.number, "rounds/still_memorized": each.still_memorized, "rounds/memo": each.memo,
        "rounds/worst": each.worst,
        "rounds/calls": each.calls, "rounds/kept": each.kept, "rounds/trained": each.trained,
    }  # fmt: skip


def _shortages(work: StageContext, inputs: ReportInputs[Path]) -> list[str]:
    """Note facts that train on fewer inverted facts than ``method.select.k``, where the run accepts that."""
    first = inputs.rounds[0].filtered if inputs.rounds else inputs.filtered
    if first is None:
        return []
    least = work.settings["options"]["method"]["select"]["k"]
    return shortage_notes(read_json(first / "cleaning.json")["counts"], least=least)


def _label(manifest: dict[str, Any], folder: Path) -> str:
    """Format the stage and role of a result, with remarks on its computation."""
    special = {"filter": _filtering, "propose": _requests}.get(manifest["stage"])
    remarks = [*(special(folder) if special else []), *manifest_notes(manifest)]
    if (folder / TRAINED_ON).exists():
        remarks.append(
            "trained on " + ", ".join(f"{name} {value}" for name, value in read_json(folder / TRAINED_ON).items())
        )
    return f"{manifest['stage']} {manifest['label']}".strip() + (f" ({'; '.join(remarks)})" if remarks else "")


def _filtering(folder: Path) -> list[str]:
    """Describe how many inverted facts were written, kept and dropped, and why."""
    counts = read_json(folder / "cleaning.json")
    dropped = ", ".join(f"{count} {reason}" for reason, count in counts["dropped"].items() if count) or "none"
    return [f"{counts['written']} written, {counts['kept']} kept", f"dropped: {dropped}"]


def _requests(folder: Path) -> list[str]:
    """Describe how many requests were sent."""
    summary = read_json(folder / "asked.json")
    return [f"{summary['calls']} requests about {summary['facts']} facts"]
