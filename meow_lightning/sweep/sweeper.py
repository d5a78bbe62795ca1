"""The project's sweeper: all cells through one store, on after a failure, one table, an honest exit status."""

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
from meow_lightning.config.quoting import bare
from meow_lightning.errors import UserError
from meow_lightning.types import Results

if TYPE_CHECKING:
    from meow_lightning.report.sweep_tables import Swept

MOST = 10_000  # cells of a sweep: more are a slip of the pen, such as range(0,1e9)
SHOWN = 3  # cells named in a message


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
        """The returns of all cells, after the table is shown; nothing where they are only looked at.

        Raises:
            UserError: When cells failed, with the list; after all others ran.
        """
        from meow_lightning.sweep.preview import overview
        from meow_lightning.sweep.published_results import FOLDER, expected
        from meow_lightning.sweep.summary import show_sweep

        published = expected(FOLDER)  # what cannot be read is said before any work
        said = {word.partition("=")[0] for word in arguments}
        params = [f"{key}={value}" for key, value in self._params.items() if key not in said]
        cells = combinations([*params, *arguments], self._loader)
        # All cells are composed before the first one runs: a typo in the last must not cost the work of the others.
        configs = self._composed(cells)
        if any(config.plan or config.status for config in configs):
            return overview(list(zip(names(cells), map(own, configs), strict=True)))
        returns: Sequence[JobReturn] = self._launcher.launch(cells, initial_job_idx=0)
        failed = []
        finished = []
        for name, words, config, returned in zip(names(cells), cells, configs, returns, strict=True):
            if returned.status is not JobStatus.COMPLETED:
                failed.append((name, returned._return_value))
            elif returned.return_value is not None:
                finished.append(swept(name, words, config, returned.return_value))
        ended = [returned.status is JobStatus.COMPLETED for returned in returns]
        again = [again_with(words) for words, well in zip(cells, ended, strict=True) if not well]
        writes = any(config.cache != "readonly" for config in configs)
        outputs = Path(self._sweep_config.outputs) if writes else None
        show_sweep(finished, failed, published=published, again=again, outputs=outputs)
        if failed:
            raise UserError(f"{len(failed)} of {len(cells)} cells failed: {'; '.join(words for words, _ in failed)}")
        return returns

    def _composed(self, cells: Sequence[Sequence[str]]) -> list[DictConfig]:
        """The config of every cell.

        Raises:
            UserError: Some cannot be composed; with their names, and what is wrong with the first.
        """
        from meow_lightning.config.hydra_errors import one_line

        configs: list[DictConfig] = []
        wrong: list[tuple[str, str]] = []
        for name, overrides in zip(names(cells), cells, strict=True):
            try:
                configs.append(self._loader.load_sweep_config(self._sweep_config, list(overrides)))
            except (HydraException, OmegaConfBaseException) as error:
                wrong.append((name, one_line(error, overrides)))
        if len(wrong) == len(cells):
            raise UserError(wrong[0][1])
        if wrong:
            these = "; ".join(name for name, _ in wrong[:SHOWN])
            more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            # A wrong value is mended; an option that the other cells have is left where it is.
            apart = ": run these apart, without it" if "is not an option" in wrong[0][1] else ""
            raise UserError(f"{wrong[0][1]}; this is so in {len(wrong)} of {len(cells)} cells: {these}{more}{apart}")
        return configs


def again_with(words: Sequence[str]) -> str:
    """The command that runs one cell of a sweep, on this machine."""
    return f"{program()} {shlex.join(map(bare, words))}"


def swept(name: str, words: Sequence[str], config: DictConfig, results: Results) -> Swept:
    """A finished cell as reports take it."""
    from meow_lightning.config.validation import plain
    from meow_lightning.report.sweep_tables import Swept

    values = {option: value for option, _, value in (word.partition("=") for word in words)}
    return Swept(name=name, words=values, settings=plain(own(config)), results=results)


def own(config: DictConfig) -> DictConfig:
    """A composed config without Hydra's part."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def combinations(arguments: Sequence[str], loader: Any) -> list[list[str]]:
    """The overrides of every cell: the product of all swept words, the last one running fastest."""
    parser = OverridesParser.create(config_loader=loader)
    choices: list[list[str]] = []
    for override in parser.parse_overrides(list(arguments)):
        key = override.get_key_element()
        if override.is_sweep_override():
            if not override.is_discrete_sweep():
                raise UserError(f"{key} sweeps over an interval; this sweeper takes lists such as {key}=1,2,3")
            choices.append([f"{key}={value}" for value in _values(override)])
        else:
            choices.append([f"{key}={override.get_value_element_as_str()}"])
    many = math.prod(map(len, choices))
    if many > MOST:
        raise UserError(f"this sweep has {_many(choices)} cells; at most {MOST:,} run in one: part it into several")
    return [list(cell) for cell in itertools.product(*choices)]


def _values(override: Override) -> list[str]:
    """The values of a swept word, those past what a sweep may hold left out.

    Raises:
        UserError: There are none.
    """
    word = override.input_line or override.get_key_element()
    if isinstance(override._value, RangeSweep):
        if override._value.step == 0:
            raise UserError(f"{word} never ends; give a step other than 0")
        found = _few(override._value.range())
        if override._value.shuffle and len(found) > MOST:  # to be shuffled, all of them would have to be there
            return [*map(str, found)]
        empty = "the end of a range is not in it, so range(0,3) is 0, 1, 2"
    else:
        empty = "glob(…) looks among the choices of a group, as in method=glob(npo*); a list of values is 1,2,3"
    values = _few(override.sweep_string_iterator())
    if not values:
        raise UserError(f"{word} gives no value, so nothing would run: {empty}")
    return values


def _few(values: Iterable[Any]) -> list[Any]:
    """All values, or one more than a sweep may hold."""
    return list(itertools.islice(values, MOST + 1))


def _many(choices: Sequence[Sequence[str]]) -> str:
    """How many cells a sweep has, in words; values were counted up to what it may hold."""
    more = any(len(values) > MOST for values in choices)
    return f"{'more than ' * more}{math.prod(min(len(values), MOST) for values in choices):,}"


def names(cells: Sequence[Sequence[str]]) -> list[str]:
    """What tells each cell from the others: its words that not all of them have; all words of a lone cell."""
    common = set[str]().union(*cells).intersection(*cells) if len(cells) > 1 else set()
    return [" ".join(word for word in cell if word not in common) for cell in cells]
