"""Send a run to its logger: its names and options, and at the end its numbers, questions and model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meow_lightning.config.recipes import RECIPE
from meow_lightning.config.schema import RunConfig
from meow_lightning.pipeline.failures import plain_name
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.stages.results.model import model_folder
from meow_lightning.stages.results.predict import PredictResult
from meow_lightning.stages.results.score import ScoreResult
from meow_lightning.store.store import Store
from meow_lightning.tracking.base import MetricSink, NullLogger, Number, QuestionTable, RunEnd
from meow_lightning.tracking.csv import Csv
from meow_lightning.tracking.disclosure import shareable
from meow_lightning.tracking.wandb import RunName, Wandb
from meow_lightning.types import Results

if TYPE_CHECKING:
    from meow_lightning.data.words import Words

UNLEARN = "unlearn"  # job type of runs whose goal has an unlearned model


def open_sink(config: RunConfig, run: RunGraph, reached: Collection[str]) -> MetricSink:
    """Open the logger of a run.

    Args:
        config: The options.
        run: The run.
        reached: Keys of the results of its goal.
    """
    logger, folder, private = config.logger, Path(config.outputs) / "runs", run.report.private
    if logger.name == "none":
        return NullLogger()
    if logger.name == "csv":
        return Csv(folder=folder, run=run.tag, private=private)
    name = RunName(
        project=logger.project, group=logger.group or run.name.rsplit("-", 2)[0], name=run.name, key=run.report.key,
        job=UNLEARN if run.models.unlearned.key in reached else config.goal,
        tags=(config.method.name, config.model.name, config.dataset.name),
    )  # fmt: skip
    return Wandb(
        folder=folder, run=name, mode=logger.mode, config=_logged_options(config, run), log_model=logger.log_model,
        texts=not private if logger.texts is None else logger.texts, private=private,
    )  # fmt: skip


def _logged_options(config: RunConfig, run: RunGraph) -> dict[str, Any]:
    """Select the options to log to W&B, with nulls of the recipe replaced by the values that unlearning used."""
    used = {name: run.report.settings["options"]["optim"][name] for name in RECIPE}
    plain = config.plain()
    logged = {**plain, "optim": {**plain["optim"], **used}}
    return shareable(logged) if run.report.private else logged


def destination(config: RunConfig) -> str:
    """Format the destination of a logger as part of a file name, since each destination is synced separately."""
    logger = config.logger.plain()
    names = [logger[name] for name in ("name", "project", "mode", "texts") if name in logger]
    return "-".join(map(plain_name, [*names, *(["model"] if config.logger.log_model else [])]))


def finished(
    config: RunConfig, store: Store, run: RunGraph, manifests: Sequence[Mapping[str, Any]], *, results: Results | None,
    report: Path | None,
) -> RunEnd:  # fmt: skip
    """Collect what a finished run sends.

    Args:
        config: The options.
        store: The store.
        run: The run.
        manifests: The manifests of the results of its goal.
        results: Its metrics; ``None`` if the goal precedes them.
        report: Folder of its report; ``None`` if the goal precedes it.
    """
    unlearned = next((each for each in manifests if each["key"] == run.models.unlearned.key), None)
    words: Words = "unicode" if config.evaluation.protocol == "none" else "published"
    return RunEnd(
        outcome="finished", numbers=[] if unlearned is None else _numbers(manifests, unlearned, results), report=report,
        questions=lambda: _questions(store, run, words=words),
        model=None if unlearned is None else model_folder(store.path(run.models.unlearned)),
    )  # fmt: skip


def _numbers(
    manifests: Sequence[Mapping[str, Any]], unlearned: Mapping[str, Any], results: Results | None
) -> list[Number]:
    """List the metrics and the costs of a run."""
    from meow_lightning.report.logged_numbers import logged_costs, logged_numbers

    return [*(() if results is None else logged_numbers(results)), *logged_costs(manifests, unlearned)]


def _questions(store: Store, run: RunGraph, *, words: Words) -> QuestionTable | None:
    """Read every question before and after unlearning; ``None`` as long as there are no predictions.

    Args:
        store: The store.
        run: The run.
        words: How ROUGE splits words.
    """
    from meow_lightning.report.question_table import question_table

    rows = {
        role: PredictResult.read(store.path(artifact)).rows
        for role, artifact in run.evaluation.predictions.items()
        if store.find(artifact) is not None
    }
    memo = {
        role: ScoreResult.read(store.path(artifact)).texts
        for (role, kind), artifact in run.evaluation.scores.items()
        if kind == "answers" and store.find(artifact) is not None
    }
    return question_table(rows, memo, words=words)
