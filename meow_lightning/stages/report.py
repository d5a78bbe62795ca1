"""report: write a page, tables and figures about a run, and a second page to share if its texts are private."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from meow_lightning.config.instantiate import component_class
from meow_lightning.data.probed import Overview, probed_dataset
from meow_lightning.evaluation.layers import layer_means
from meow_lightning.inversion.candidates import shortage_notes
from meow_lightning.report.data import Dropped, LayerCurves, Loop, ReportData, Round
from meow_lightning.report.extraction import worst_texts
from meow_lightning.report.neighbours import Neighbour, neighbours
from meow_lightning.report.page import write_report
from meow_lightning.report.requests import ServedRequest
from meow_lightning.report.rounds import sentence
from meow_lightning.report.seed_spread import Spread
from meow_lightning.report.slim import retrieved_answers
from meow_lightning.resources.requirements import Planner
from meow_lightning.stages.base import Stage, StageContext, manifest_notes, mixed_versions
from meow_lightning.stages.common.loading import load_dataset
from meow_lightning.stages.common.needs import ReportInputs, RoundInputs
from meow_lightning.stages.common.slim import judged_questions
from meow_lightning.stages.evaluate import answers, extracted, layer_rows, scores
from meow_lightning.stages.results.evaluate import EvaluateResult
from meow_lightning.stages.results.filter import FilterResult
from meow_lightning.stages.results.model import MODEL, ChosenExamples, ModelResult, Selection, is_carried_over
from meow_lightning.stages.results.propose import ProposeResult
from meow_lightning.stages.results.report import ReportResult
from meow_lightning.stages.results.score import ScoreResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import MANIFEST
from meow_lightning.store.jsonl import read_json, write_lines
from meow_lightning.tracking.curve import CURVE
from meow_lightning.tracking.disclosure import PAGE, shareable
from meow_lightning.types import ROLES, Role

# Measured on the default run.
REPORT_BYTES = 500_000  # figures, tables and a page without questions
QUESTION_BYTES = 1_500  # per question in the page, without its texts
# Replaces the notes in the shareable page.
ELSEWHERE = "Notes on the models and facts behind these numbers are in the full report, which stays with its owner."
DISCLAIMED = "A disclaimer applies to these numbers; it is in the full report, which stays with its owner."


class Report(Stage):
    """Write the page, tables and figures of a run."""

    name = "report"
    version = 9
    after = ("evaluate", "verify", "probe")
    outputs = ReportResult.files

    def disk(self, artifact: Artifact, planner: Planner) -> int:
        """Estimate the bytes of figures, tables and the page with its questions."""
        facts = planner.dataset.facts("forget")
        return REPORT_BYTES + sum(QUESTION_BYTES + len(fact.question) + 4 * len(fact.answer) for fact in facts)

    def run(self, work: StageContext) -> None:
        """Write the page, tables, figures and, for private texts, a page to share."""
        inputs = ReportInputs.from_needs(work.needs)
        evaluated = EvaluateResult.read(inputs.results)
        filtered = FilterResult.read(inputs.evaluation.filtered) if inputs.evaluation.filtered else None
        manifests = {folder: read_json(folder / MANIFEST) for folder in work.needs.values()}
        unlearned, loop = manifests[inputs.models.unlearned], _loop(work, inputs)
        sequence = inputs.evaluation.sequence
        selected = inputs.models.unlearned if sequence is None else sequence.joint.model
        shown: dict[Role, Path] = {
            role: folder for role, folder in inputs.evaluation.slim.items() if role == "unlearned"
        }
        if loop is not None:
            write_lines(work.folder / CURVE, map(_point, loop.rounds))  # read by the trackers
            ReportResult(work.folder / PAGE, _rounds_content(loop)).write(work.folder)
        selection_fraction = work.settings["options"]["evaluation"]["selection_fraction"]
        data = ReportData(
            name=work.settings["name"], key=work.settings["results_key"], settings=work.settings["options"],
            settings_origin=work.settings["origin"], results=evaluated.results,
            rows=answers(work, selection_fraction=selection_fraction),
            memo=scores(inputs.evaluation),
            baseline=list(ScoreResult.read(inputs.baseline).texts) if inputs.baseline else [],
            selected=Selection.read(selected).positions,
            inverted=filtered.inverted if filtered else [], dropped=_dropped(filtered),
            curves={
                manifests[model]["label"]: points
                for model in inputs.models.present
                if (points := ModelResult.read(model).curve)
            },
            stages=[
                {"label": _label(manifest, folder), "key": manifest["key"], "seconds": manifest["seconds"]}
                for folder, manifest in manifests.items()
            ],
            weights=f"store/{unlearned['stage']}/{unlearned['key']}/{MODEL}",
            public=work.settings["public"], texts=True, disclaimer=work.settings["disclaimer"] or "",
            notes=[*work.settings["notes"], *_shortages(work, inputs), *mixed_versions(manifests.values())], loop=loop,
            trust=work.settings.get("trust", {}),
            spread=None if (spread := work.settings.get("spread")) is None else Spread(**spread),
            intervals=evaluated.intervals, known=_known_facts(work) if inputs.probe else [],
            neighbours=_neighbours(work, inputs.models.unlearned),
            sequence=evaluated.sequence, served=[ServedRequest(**each) for each in work.settings.get("requests", ())],
            keeps_start=work.settings.get("keeps_start", False), layers=_layers(work, inputs),
            said=worst_texts(
                extracted(
                    inputs.evaluation, work.settings.get("extractions", {}), allow=work.inputs.get("allow", ()),
                    selection_fraction=selection_fraction,
                )
            ),
            retrieved=retrieved_answers(
                judged_questions(work, shown, selection_fraction=selection_fraction).get("unlearned", "")
            ),
        )  # fmt: skip
        write_report(data, work.folder, shareable=None if data.public else _shareable(data, manifests))


def _known_facts(work: StageContext) -> list[Overview]:
    """List the questions that the target model was asked."""
    dataset = probed_dataset(load_dataset(work))
    return [] if dataset is None else dataset.overview()


def _neighbours(work: StageContext, unlearned: Path) -> dict[str, list[Neighbour]]:
    """List the retain examples that the unlearned model's streams chose; the dataset is read only if there are any."""
    chosen = ChosenExamples.read(unlearned).by_stream
    return neighbours(load_dataset(work), chosen) if chosen else {}


def _layers(work: StageContext, inputs: ReportInputs[Path]) -> list[LayerCurves]:
    """Average what every attack on hidden states read over the questions, layer by layer."""
    options, stored = work.settings["options"], inputs.evaluation.layers
    fraction = options["evaluation"]["selection_fraction"]
    return [
        LayerCurves(
            label=options["attacks"][name]["label"],
            unit=component_class(options["attacks"][name], allow=work.inputs["allow"]).unit,
            means={
                role: layer_means(layer_rows(stored[role, name], fraction)) for role in ROLES if (role, name) in stored
            },
        )
        for name in dict.fromkeys(name for _, name in stored)
    ]


def _shareable(data: ReportData, manifests: Mapping[Path, dict[str, Any]]) -> ReportData:
    """Remove dataset texts, free text and paths from the data, also notes, which may quote them."""
    bare = {manifest["key"]: f"{manifest['stage']} {manifest['label']}".strip() for manifest in manifests.values()}
    return replace(
        data, texts=False, settings=shareable(data.settings), rows={}, inverted=[], known=[], neighbours={}, said={},
        retrieved=[], dropped=Dropped(counts={}, examples={}),
        served=[replace(each, groups=()) for each in data.served],
        stages=[{**stage, "label": bare[stage["key"]]} for stage in data.stages],
        disclaimer=DISCLAIMED if data.disclaimer else "", notes=[ELSEWHERE] if data.notes else [],
    )  # fmt: skip


def _dropped(filtered: FilterResult | None) -> Dropped:
    """Collect what filtering dropped in the last round; empty for a method without inverted facts."""
    if filtered is None:
        return Dropped(counts={}, examples={})
    return Dropped(counts=filtered.summary.dropped, examples=filtered.summary.examples)


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
    """Convert the rounds to the stored content, which names the queried facts ``asked``."""
    rounds = [{"asked" if name == "queried" else name: v for name, v in asdict(one).items()} for one in loop.rounds]
    return {"sentence": sentence(loop), **asdict(loop), "rounds": rounds}


def _round(folders: RoundInputs[Path], number: int, *, memorized_above: float) -> Round:
    requested, filtering = ProposeResult.read(folders.proposed).summary, FilterResult.read(folders.filtered).summary
    scores = [text.score for text in ScoreResult.read(folders.scores).texts]
    return Round(
        number=number, queried=requested.facts, calls=requested.calls, written=filtering.written,
        kept=filtering.kept,
        trained=sum(map(len, Selection.read(folders.unlearned).positions.values())),
        still_memorized=sum(score > memorized_above for score in scores), facts=len(scores),
        memo=sum(scores) / len(scores), worst=max(scores),
        tokens=requested.tokens,
        same=is_carried_over(folders.unlearned),
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
    first = inputs.rounds[0].filtered if inputs.rounds else inputs.evaluation.filtered
    if first is None:
        return []
    least = work.settings["options"]["method"]["select"]["k"]
    return shortage_notes(FilterResult.read(first).summary.counts, least=least)


def _label(manifest: dict[str, Any], folder: Path) -> str:
    """Format the stage and role of a result, with remarks on its computation."""
    special = {"filter": _filtering, "propose": _requests}.get(manifest["stage"])
    remarks = [*(special(folder) if special else []), *manifest_notes(manifest)]
    if trained_on := ModelResult.read(folder).trained_on:
        remarks.append("trained on " + ", ".join(f"{name} {value}" for name, value in trained_on.items()))
    return f"{manifest['stage']} {manifest['label']}".strip() + (f" ({'; '.join(remarks)})" if remarks else "")


def _filtering(folder: Path) -> list[str]:
    """Describe how many inverted facts were written, kept and dropped, and why."""
    summary = FilterResult.read(folder).summary
    dropped = ", ".join(f"{count} {reason}" for reason, count in summary.dropped.items() if count) or "none"
    return [f"{summary.written} written, {summary.kept} kept", f"dropped: {dropped}"]


def _requests(folder: Path) -> list[str]:
    """Describe how many requests were sent."""
    summary = ProposeResult.read(folder).summary
    return [f"{summary.calls} requests about {summary.facts} facts"]
