"""Validation of a run's options: the composed configuration becomes a :class:`RunConfig`, or all mistakes at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from meow_lightning.config.mistakes import user_error
from meow_lightning.config.precision import weights_dtype
from meow_lightning.config.schema import RunConfig, hydra_schema
from meow_lightning.config.search_path import ExperimentsSearchPath
from meow_lightning.config.training_options import Launcher
from meow_lightning.errors import UserError, group_errors, mistakes_of


def register() -> None:
    """Register the schema that ``conf/config.yaml`` names, the ``weights_dtype`` resolver and ``experiments/``."""
    ConfigStore.instance().store(name="schema", node=hydra_schema())
    OmegaConf.register_new_resolver("weights_dtype", weights_dtype, replace=True)
    Plugins.instance().register(ExperimentsSearchPath)


def resolved(cfg: DictConfig) -> RunConfig:
    """Resolve a composed configuration and build the typed options.

    Raises:
        UserError: Values are missing, unknown, of the wrong type or out of range; the message has a line for each.
    """
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    required = sorted(OmegaConf.missing_keys(cfg))
    found = [f"{key} is required: set it on the command line, as in {key}=…" for key in required]
    try:
        config = run_config(plain)
    except UserError as error:
        wrong = mistakes_of(error)
        names = {line.partition("=")[0] for line in wrong}
        # Of an invalid value that other options take over, only its source is shown.
        repeated = {option for option, source in _sources(cfg).items() if source in names}
        found += [line for line in wrong if line.partition("=")[0] not in {*required, *repeated}]
        raise group_errors(found) from error
    if found:
        raise group_errors(found)
    return config


def _sources(cfg: DictConfig) -> dict[str, str]:
    """Map the options that take over the value of another one to that option."""

    def walk(node: Any, path: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield from walk(value, f"{path}.{key}".lstrip("."))
        elif isinstance(node, str) and (match := re.fullmatch(r"\$\{([\w.]+)\}", node)):
            yield path, match[1]

    return dict(walk(OmegaConf.to_container(cfg, resolve=False), ""))


def launcher_config(plain: Mapping[str, Any]) -> Launcher:
    """Build the typed options of a launcher from the plain values of ``hydra.launcher``.

    Raises:
        UserError: As in :func:`resolved`.
    """
    try:
        return Launcher.model_validate(plain)
    except ValidationError as error:
        raise user_error(error, group="hydra.launcher") from error


def run_config(plain: Mapping[str, Any]) -> RunConfig:
    """Build the typed options from plain values.

    Args:
        plain: All options, nested.

    Raises:
        UserError: As in :func:`resolved`.
    """
    try:
        return RunConfig.model_validate(plain, context={"allow": plain.get("trusted_packages") or ()})
    except ValidationError as error:
        raise user_error(error) from error
