"""The project's sweeper: all cells through one store, on after a failure, one table, an honest exit status."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from meow_lightning.types import UserError

# A plain node: Hydra executes plug-ins before they are importable modules, which a dataclass does not survive.
# `params` are swept words that a table file brings; the command line's come after and win.
NODE = {"_target_": "hydra_plugins.meow_sweeper.MeowSweeper", "params": {}}
ConfigStore.instance().store(group="hydra/sweeper", name="meow", node=NODE, provider="meow_sweeper")


class MeowSweeper(Sweeper):
    """Runs all combinations of the swept words, one cell after the other, through the launcher.

    Args:
        params: Swept words by option, such as ``{"method": "meow,grad_ascent"}``.
    """

    def __init__(self, params: DictConfig) -> None:
        self._params = {str(key): str(value) for key, value in params.items()}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember who runs what."""
        self._loader, self._sweep_config = hydra_context.config_loader, config
        plugins = Plugins.instance()
        self._launcher = plugins.instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """The returns of all cells, after the table is shown.

        Raises:
            UserError: When cells failed, with the list; after all others ran.
        """
        from meow_lightning.cell import show_sweep

        said = {word.partition("=")[0] for word in arguments}
        params = [f"{key}={value}" for key, value in self._params.items() if key not in said]
        cells = combinations([*params, *arguments], self._loader)
        # All cells are composed before the first one runs: a typo in the last must not cost the work of the others.
        for overrides in cells:
            self._loader.load_sweep_config(self._sweep_config, overrides)
        returns: Sequence[JobReturn] = self._launcher.launch(cells, initial_job_idx=0)
        failed = []
        finished = []
        for name, returned in zip(names(cells), returns, strict=True):
            if returned.status is JobStatus.COMPLETED:
                finished.append((name, returned.return_value))
            else:
                failed.append((name, returned._return_value))
        show_sweep(finished, failed, outputs=Path(self._sweep_config.outputs))
        if failed:
            raise UserError(f"{len(failed)} of {len(cells)} cells failed: {'; '.join(words for words, _ in failed)}")
        return returns


def combinations(arguments: Sequence[str], loader: Any) -> list[list[str]]:
    """The overrides of every cell: the product of all swept words, the last one running fastest."""
    parser = OverridesParser.create(config_loader=loader)
    choices: list[list[str]] = []
    for override in parser.parse_overrides(list(arguments)):
        key = override.get_key_element()
        if override.is_sweep_override():
            if not override.is_discrete_sweep():
                raise UserError(f"{key} sweeps over an interval; this sweeper takes lists such as {key}=1,2,3")
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            choices.append([f"{key}={override.get_value_element_as_str()}"])
    return [list(cell) for cell in itertools.product(*choices)]


def names(cells: Sequence[Sequence[str]]) -> list[str]:
    """What tells each cell from the others: its words that not all of them have; all words of a lone cell."""
    common = set[str]().union(*cells).intersection(*cells) if len(cells) > 1 else set()
    return [" ".join(word for word in cell if word not in common) for cell in cells]
