"""Compose options and build graphs as the command line does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from meow_lightning.config import validation
from meow_lightning.config.schema import RunConfig
from meow_lightning.config.validation import resolved, run_config
from meow_lightning.pipeline.build import graph
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.store.artifact import Artifact

CONF = Path(__file__).resolve().parents[2] / "conf"
SMALL = ("dataset.authors=12", "dataset.retain_eval=8", "model.pretrain.rows=30", "model.finetune.replay=2")


def composed(*words: str) -> Any:
    """Compose the config of a command line."""
    GlobalHydra.instance().clear()
    validation.register()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return compose("config", overrides=list(words))


def options(*words: str, small: tuple[str, ...] = SMALL) -> RunConfig:
    """Build the options of a reduced default run with some overrides."""
    return resolved(composed(*small, *words))


def with_values(config: RunConfig, values: dict[str, Any]) -> RunConfig:
    """Build the options again with other values, by dotted option; a value of ``...`` removes the option."""
    plain = copy.deepcopy(config.plain())
    for option, value in values.items():
        *groups, name = option.split(".")
        node = plain
        for group in groups:
            node = node[group]
        if value is ...:
            del node[name]
        else:
            node[name] = value
    return run_config(plain)


def cell(*words: str) -> RunGraph:
    """Build the graph of a reduced default run with some overrides."""
    return graph(options(*words))


def named(made: RunGraph) -> dict[str, Artifact]:
    """Map the artifacts of a graph by the names under which its report receives them."""
    return {**made.report.needs, "report": made.report}


def keys(made: RunGraph) -> dict[str, str]:
    """Map the names of a graph's artifacts to their keys."""
    return {name: artifact.key for name, artifact in named(made).items()}


def moved(*words: str, start: tuple[str, ...] = ()) -> set[str]:
    """Find the artifacts of the default run whose key changes with some overrides."""
    before, after = keys(cell(*start)), keys(cell(*start, *words))
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}
