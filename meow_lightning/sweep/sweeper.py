"""Hydra sweeper: runs share one store, continue after failures, and end in one table and an exit status."""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from meow_lightning.config.program import program
from meow_lightning.config.quoting import escape, shell_word
from meow_lightning.console.console import shorten_runs
from meow_lightning.errors import UserError
from meow_lightning.types import Results

if TYPE_CHECKING:
    from meow_lightning.report.sweep_tables import Swept

MAX_RUNS = 10_000  # more are probably a typing error, such as range(0,1e9)


class MeowSweeper(Sweeper):
    """Runs all combinations of the swept options, one run after the other, through the launcher.

    Args:
        params: Swept values by option, such as ``{"method": "meow,grad_ascent"}``.
    """

    def __init__(self, params: DictConfig) -> None:
        self._params = {str(key): str(value) for key, value in params.items()}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the config loader and the launcher."""
        self._loader, self._sweep_config = hydra_context.config_loader, config
        plugins = Plugins.instance()
        self._launcher = plugins.instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Execute all runs and show their table; with ``plan`` or ``status``, only show that.

        Raises:
            UserError: Some runs failed; raised after all others ran.
        """
        from meow_lightning.sweep.preview import preview
        from meow_lightning.sweep.published_results import FOLDER, expected
        from meow_lightning.sweep.summary import FailedRun, show_sweep
        from meow_lightning.sweep.uds_results import uds_results

        published = [*expected(FOLDER), *uds_results()]  # report unreadable files before any work
        given = {word.partition("=")[0] for word in arguments}
        params = [f"{key}={value}" for key, value in self._params.items() if key not in given]
        runs = combinations([*params, *arguments], self._loader)
        # Compose all runs before the first starts, so that a typo in the last is found at once.
        configs = self._composed(runs)
        if any(config.plan or config.status for config in configs):
            return preview(list(zip(distinct_names(runs), map(without_hydra, configs), strict=True)))
        tags = check_runs(runs, configs)
        sweep = self._sweep_config.hydra.runtime.choices.get("sweep")
        started = [[*run, *group(config, sweep)] for run, config in zip(runs, configs, strict=True)]
        returns: Sequence[JobReturn] = self._launcher.launch(started, initial_job_idx=0)
        failed, finished = [], []
        for name, words, config, tag, returned in zip(distinct_names(runs), runs, configs, tags, returns, strict=True):
            if returned.status is not JobStatus.COMPLETED:
                error = returned._return_value
                rerun, public = rerun_command(words), is_public(config)
                failed.append(FailedRun(name=name, tag=tag, error=error, rerun=rerun, public=public))
            elif returned.return_value is not None:
                finished.append(swept(name, words, config, returned.return_value))
        writes = any(config.cache != "readonly" for config in configs)
        outputs = Path(self._sweep_config.outputs) if writes else None
        show_sweep(finished, failed, published=published, outputs=outputs, name=sweep)
        if failed:
            names = shorten_runs([each.name for each in failed])
            raise UserError(f"{len(failed)} of {len(runs)} runs failed: {names}")
        return returns

    def _composed(self, runs: Sequence[Sequence[str]]) -> list[DictConfig]:
        """Compose the config of every run.

        Raises:
            UserError: Some cannot be composed; lists them, with the error of the first.
        """
        from meow_lightning.config.hydra_errors import summarize_error

        configs: list[DictConfig] = []
        invalid: list[tuple[str, str]] = []
        for name, overrides in zip(distinct_names(runs), runs, strict=True):
            try:
                configs.append(self._loader.load_sweep_config(self._sweep_config, list(overrides)))
            except (HydraException, OmegaConfBaseException) as error:
                invalid.append((name, summarize_error(error, overrides)))
        if invalid:
            # Correct a wrong value, but run separately if only other runs have the option.
            remedy = ": run these separately, without it" if "is not an option" in invalid[0][1] else ""
            raise invalid_runs(invalid, len(runs), remedy)
        return configs


def check_runs(runs: Sequence[Sequence[str]], configs: Sequence[DictConfig]) -> list[str]:
    """Plan every run before the first starts, so that an impossible one costs no work; returns their tags.

    What is to be known of their numbers is printed, for jobs write it to their logs.

    Args:
        runs: The words of each run.
        configs: Their composed configs.

    Raises:
        UserError: Some cannot be planned; lists them, with the error of the first.
    """
    from meow_lightning.config.validation import resolved
    from meow_lightning.experiment import PROGRAM, caveats, prepare

    invalid: list[tuple[str, str]] = []
    tags, notes = [], list[str]()
    for name, config in zip(distinct_names(runs), configs, strict=True):
        try:
            run, artifacts = prepare(resolved(without_hydra(config)))
        except UserError as error:
            invalid.append((name, str(error)))
        else:
            tags.append(run.tag)
            notes += caveats(run, artifacts)
    if invalid:
        raise invalid_runs(invalid, len(runs), "; none was started")
    PROGRAM.tell(notes)
    return tags


def invalid_runs(invalid: Sequence[tuple[str, str]], total: int, remedy: str) -> UserError:
    """Build the error of runs that are invalid.

    Args:
        invalid: Name and error of each.
        total: Number of runs of the sweep.
        remedy: What to say after their names, where other runs are valid.
    """
    why = invalid[0][1]
    if len(invalid) == total:
        return UserError(why)
    names = shorten_runs([name for name, _ in invalid])
    return UserError(f"{why}; this affects {len(invalid)} of {total} runs: {names}{remedy}")


def group(config: DictConfig, sweep: str | None) -> list[str]:
    """List the option that puts a run into the W&B group of its sweep; none if it has a group or the sweep no name."""
    logger = config.logger
    return [f"logger.group={sweep}"] if sweep and logger.name == "wandb" and logger.group is None else []


def rerun_command(words: Sequence[str]) -> str:
    """Build the command that executes one run of a sweep on this machine."""
    return f"{program()} {shlex.join(map(shell_word, words))}"


def swept(name: str, words: Sequence[str], config: DictConfig, results: Results) -> Swept:
    """Build the record of a finished run for the tables of the sweep."""
    from meow_lightning.config.validation import resolved
    from meow_lightning.report.sweep_tables import Swept

    values = {option: value for option, _, value in (word.partition("=") for word in words)}
    return Swept(name=name, words=values, config=resolved(without_hydra(config)), results=results)


def is_public(config: DictConfig) -> bool:
    """Whether the texts of a run's dataset may be published; not if its options or its dataset are invalid."""
    from meow_lightning.config.validation import resolved
    from meow_lightning.pipeline.nodes.context import dataset_of

    try:
        return dataset_of(resolved(without_hydra(config)))[0].public
    except Exception:  # noqa: BLE001 - the run has failed for this reason, which is shown
        return False


def without_hydra(config: DictConfig) -> DictConfig:
    """Copy a composed config without the ``hydra`` group."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def combinations(arguments: Sequence[str], loader: Any) -> list[list[str]]:
    """List the overrides of every run: the product of all swept values, the last option varying fastest."""
    parser = OverridesParser.create(config_loader=loader)
    choices: list[list[str]] = []
    for override in parser.parse_overrides(list(arguments)):
        key = override.get_key_element()
        if override.is_sweep_override():
            if not override.is_discrete_sweep():
                raise UserError(f"{key} sweeps over an interval; this sweeper supports lists, such as {key}=1,2,3")
            choices.append([f"{key}={value}" for value in _values(override)])
        else:
            choices.append([f"{key}={override.get_value_element_as_str()}"])
    if math.prod(map(len, choices)) > MAX_RUNS:
        raise UserError(
            f"this sweep has {_run_count(choices)} runs; the maximum is {MAX_RUNS:,}, so split it into several"
        )
    return [list(run) for run in itertools.product(*choices)]


def _values(override: Override) -> list[str]:
    """List the values of a swept option, at most one more than a sweep may hold.

    Raises:
        UserError: The option has no values.
    """
    word = override.input_line or override.get_key_element()
    if isinstance(override._value, RangeSweep):
        if override._value.step == 0:
            raise UserError(f"{word} is infinite: set a step other than 0")
        unshuffled = _first_values(override._value.range())
        if override._value.shuffle and len(unshuffled) > MAX_RUNS:  # shuffling would require all of them
            return [*map(str, unshuffled)]
        empty = "a range excludes its end, so range(0,3) is 0, 1, 2"
    else:
        empty = "glob(…) selects among the choices of a group, as in method=glob(npo*); a list of values is 1,2,3"
    values = _first_values(override.sweep_string_iterator())
    if not values:
        raise UserError(f"{word} has no values: {empty}")
    return values


def _first_values(values: Iterable[Any]) -> list[Any]:
    """Take all values, or the first ones up to one more than a sweep may hold."""
    return list(itertools.islice(values, MAX_RUNS + 1))


def _run_count(choices: Sequence[Sequence[str]]) -> str:
    """Format the number of runs of a sweep; values are counted only up to one above the maximum."""
    truncated = any(len(values) > MAX_RUNS for values in choices)
    return f"{'more than ' * truncated}{math.prod(min(len(values), MAX_RUNS) for values in choices):,}"


def distinct_names(runs: Sequence[Sequence[str]]) -> list[str]:
    """Name each run by the options that not all runs share; a single run by all of its options."""
    common = set[str]().union(*runs).intersection(*runs) if len(runs) > 1 else set()
    return [" ".join(escape(word) for word in run if word not in common) for run in runs]
