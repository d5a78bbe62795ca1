"""evaluate: compute the metrics from stored predictions and MEMO scores; no model runs, so it takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meow_lightning.data.values.secrets import public_texts
from meow_lightning.evaluation.ability import AbilityResult, Unmeasured, with_ability
from meow_lightning.evaluation.checkpoint_selection import remaining_rows
from meow_lightning.evaluation.predictions import by_set, read_rows
from meow_lightning.evaluation.suite.bootstrap import headline_samples, interval_ends
from meow_lightning.evaluation.suite.suite import evaluate, results_to_json
from meow_lightning.evaluation.tofu_logs.reader import read_retain_log
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.loading import check_unchanged, load_facts
from meow_lightning.stages.common.needs import EvaluationInputs
from meow_lightning.store.durable import write_json
from meow_lightning.store.integrity import digest
from meow_lightning.store.jsonl import read_lines
from meow_lightning.types import AnswerRow, ScoredText

VERSION = 6
DRAWS = "draws.npz"
MAKES = ("results.json", "intervals.json", DRAWS)


def answers(work: StageContext, *, selection_fraction: float) -> dict[str, list[AnswerRow]]:
    """Read the predictions by role: the stored ones, and those of a log that replaces the retain model.

    Args:
        work: The stage's context.
        selection_fraction: Share of every set that is left out because it was used to select an epoch.
    """
    stored = EvaluationInputs.from_needs(work.needs).predictions
    rows: dict[str, list[AnswerRow]] = {role: read_rows(path / "rows.jsonl") for role, path in stored.items()}
    log = work.inputs.get("retain_predictions")
    if log is not None:
        if "retain_predictions" in work.settings:
            check_unchanged(
                f"evaluation.retain_predictions={log}", digest(Path(log)), work.settings["retain_predictions"]
            )
        questions = [(row.fact, row.question, row.answer) for row in by_set(rows["target"])["forget"]]
        rows["retain"] = read_retain_log(Path(log), questions, option="evaluation.retain_predictions")
    if selection_fraction:
        rows = {role: remaining_rows(by_set(each), selection_fraction) for role, each in rows.items()}
    return rows


def scores(inputs: EvaluationInputs[Path]) -> dict[str, dict[str, list[ScoredText]]]:
    """Read the MEMO scores by role and kind."""
    by_role: dict[str, dict[str, list[ScoredText]]] = {}
    for (role, kind), folder in inputs.scores.items():
        by_role.setdefault(role, {})[kind] = read_scores(folder)
    return by_role


def abilities(inputs: EvaluationInputs[Path]) -> dict[str, list[AbilityResult]]:
    """Read the results of ability tasks by role."""
    by_role: dict[str, list[AbilityResult]] = {}
    for (role, _), folder in inputs.abilities.items():
        by_role.setdefault(role, []).append(AbilityResult.read(folder))
    return by_role


def read_scores(folder: Path) -> list[ScoredText]:
    """Read the scores that a ``score`` stage stored."""
    rows = read_lines(folder / "scores.jsonl")
    return [ScoredText(**{**row, "windows": tuple(row["windows"])}) for row in rows]


def read_draws(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read the bootstrap samples of the unlearned model's headline numbers, by name."""
    with np.load(path, allow_pickle=False) as stored:
        return {name.replace("|", "/"): stored[name].astype(np.float64) for name in stored.files}


def run(work: StageContext) -> None:
    """Write the metrics and their confidence intervals over questions.

    ``results.json`` holds definitions, values by role and the reasons for missing values; ``intervals.json`` holds the
    intervals; ``draws.npz`` holds the unlearned model's headline numbers in every bootstrap sample, for intervals over
    several seeds.
    """
    rows = answers(work, selection_fraction=work.settings.get("selection_fraction", 0.0))
    memo, mean = scores(EvaluationInputs.from_needs(work.needs)), work.settings["truth_ratio_mean"]
    protocol = work.settings.get("protocol", "none")
    results = evaluate(
        rows, memo, truth_ratio_mean=mean, absent=work.settings.get("absent", {}), protocol=protocol,
        public=public_texts(load_facts(work, ["retain"])),
    )  # fmt: skip
    inputs = EvaluationInputs.from_needs(work.needs)
    results = with_ability(
        results, abilities(inputs), absent=work.settings.get("absent", {}),
        unmeasured=[Unmeasured(**each) for each in work.settings.get("unmeasured", ())],
    )  # fmt: skip
    samples = headline_samples(
        rows, memo, truth_ratio_mean=mean, protocol=protocol, bootstrap_samples=work.settings["bootstrap_samples"],
        seed=0,
    )  # fmt: skip
    write_json(
        work.folder / "intervals.json", interval_ends(samples, confidence_level=work.settings["confidence_level"])
    )
    unlearned = {name.replace("/", "|"): each.astype(np.float32) for name, each in samples.get("unlearned", {}).items()}
    np.savez_compressed(work.folder / DRAWS, **unlearned)  # type: ignore[arg-type]
    write_json(work.folder / "results.json", results_to_json(results))
