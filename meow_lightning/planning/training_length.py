"""How long an unlearning trains, said before it starts: a recipe of large sets takes few steps on few facts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meow_lightning.config.recipes import RECIPE
from meow_lightning.config.schema import RunConfig
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.planning.preflight import Preflight
from meow_lightning.planning.requirements import largest_step
from meow_lightning.resources.requirements import TrainingWork
from meow_lightning.stages import stage
from meow_lightning.store.artifact import Artifact

MADE_FOR = {"default": 200, "tiny": 64}
"""Facts to forget that a column of the methods' recipes was made for: TOFU's forget05, and the shipped dataset's."""

LEAST = 0.2
"""Share of steps * learning rate of the recipe on those facts below which a run is said to train little.

MEOW on TOFU's forget01 (40 facts), the smallest split with published numbers, has 0.21 of that on forget05.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A training by its length.

    Attributes:
        rows: Rows of an epoch.
        epochs: Passes over them.
        steps: Optimizer steps of all epochs.
        batch: Rows of the largest step.
        lr: Peak learning rate.
    """

    rows: int
    epochs: int
    steps: int
    batch: int
    lr: float

    @property
    def amount(self) -> float:
        """Steps times peak learning rate: an upper bound on how far Adam moves a weight, about."""
        return self.steps * self.lr


def training_notes(run: RunGraph, preflight: Preflight, artifacts: Sequence[Artifact]) -> list[str]:
    """Describe the unlearning of a run that is still to be trained, and whether it trains little; one sentence each.

    Args:
        run: The run.
        preflight: Its preflight.
        artifacts: The artifacts of its goal.
    """
    reached = {artifact.key for artifact in artifacts}
    missing = [each for each in _chain(run.models.unlearned) if preflight.store.find(each) is None]
    trainings = [_training(each, preflight) for each in missing if each.key in reached]
    if not trainings:
        return []
    rows = trainings[0]
    steps = sum(each.steps for each in trainings)
    many = f", over {len(trainings)} requests" if len(trainings) > 1 else ""
    said = (
        f"unlearning takes {steps} step{'s' * (steps != 1)} of at most {rows.batch} rows ({rows.rows} rows, "
        f"{rows.epochs} epochs{many}) at a learning rate of {rows.lr:g}"
    )
    return [said, *_few_steps(preflight.config, run, trainings)]


def _chain(model: Artifact) -> Iterator[Artifact]:
    """List the unlearning stages that a model went through: several if requests arrive one after another."""
    current: Artifact | None = model
    while current is not None and current.stage == "unlearn":
        yield current
        current = current.needs.get("start")


def _training(artifact: Artifact, preflight: Preflight) -> Training:
    planner, recipe = preflight.planner.during(artifact), artifact.settings["recipe"]
    work = stage(artifact.stage).describe_work(artifact, planner)
    assert isinstance(work, TrainingWork)
    first = work.streams[0]
    tokens = [planner.tokens(row) for row in first]
    limit = recipe.get("batch_tokens")
    per_epoch = _steps(len(first), recipe["global_batch_size"]) if limit is None else -(-sum(tokens) // limit)
    return Training(
        rows=len(first), epochs=recipe["epochs"], steps=per_epoch * recipe["epochs"], lr=recipe["lr"],
        batch=largest_step(len(first), recipe, shortest=min(tokens)),
    )  # fmt: skip


def _steps(rows: int, batch: int) -> int:
    return -(-rows // batch)


def _few_steps(config: RunConfig, run: RunGraph, trainings: list[Training]) -> list[str]:
    """Say that a training is far shorter than that of its recipe on the facts that it was made for."""
    own = _recipe(config)
    as_shipped = run.dataset.public and all(getattr(config.optim, name) is None for name in RECIPE)
    if own is None or as_shipped or config.disclaimer is not None:  # debug=fast already says so of its numbers
        return []
    recipe, facts = own
    forgotten = len(run.dataset.facts("forget"))
    expected = sum(
        _steps(math.ceil(each.rows * facts / forgotten), recipe["global_batch_size"]) * recipe["epochs"] * recipe["lr"]
        for each in trainings
    )
    amount = sum(each.amount for each in trainings)
    if not amount or amount >= LEAST * expected:
        return []
    more = expected / amount
    epochs, lr = round(trainings[0].epochs * more), min(1.0, trainings[0].lr * more)
    return [
        f"this is little training: steps times learning rate are {amount / expected:.0%} of what the recipe of "
        f"method={config.method.name} comes to on {facts} facts, here {forgotten}, and the model may forget nothing; "
        f"for as much set optim.epochs={epochs} or optim.lr={lr:.2g}, or something between"
    ]


def _recipe(config: RunConfig) -> tuple[dict[str, Any], int] | None:
    """Return the method's recipe for the model and the number of facts it was made for; ``None`` if that is unknown."""
    recipe, column = {}, "default"
    for name in RECIPE:
        table = getattr(config.method, name)
        if isinstance(table, Mapping):
            column = config.model.name if config.model.name in table else "default"
            table = table.get(column)
        if table is None:
            return None
        recipe[name] = table
    return (recipe, MADE_FOR[column]) if column in MADE_FOR else None
