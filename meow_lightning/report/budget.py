"""Tuning budget of every method in a sweep, in one line; methods are comparable only on equal budgets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from meow_lightning.report.sweep_tables import Swept

PLACES = ("model", "dataset", "dataset.split")  # options that define where methods are compared; these are not tuned
CHANGES = ("optim", "debug", "experiment")  # options besides `method.` that set the recipe of all runs

Values = dict[str, list[str]]


def budget(runs: Sequence[Swept]) -> str:
    """Describe how many settings each method got, of which options and seeds, and which methods finished fewer runs.

    A method's runs are the product of all values: settings x places x seeds.

    Args:
        runs: All finished runs, at least one.
    """
    swept = _swept(runs)
    places = {option: values for option, values in swept.items() if option in PLACES}
    tuned = {option: values for option, values in swept.items() if option not in PLACES}
    seeds = sorted({run.config.seed for run in runs})
    fixed = ", ".join(f"{option}={value}" for option, value in runs[0].words.items() if _fixes(option, swept))
    listed = ", ".join(map(str, seeds))
    parts = [
        f"{_product(tuned)} settings per method ({_spelled(tuned)})" if tuned else "recipes as in conf",
        f"with {fixed}" if fixed else "",
        f"for each of {_spelled(places)}" if places else "",
        f"each on seed {listed}" if len(seeds) == 1 else f"each on {len(seeds)} seeds ({listed})",
    ]
    text = ", ".join(part for part in parts if part)
    return f"budget: {text}{_fewer(runs, swept, full=_product(swept) * len(seeds))}"


def _swept(runs: Sequence[Swept]) -> Values:
    """Collect the values of all options, except method and seed, that differ between runs, in order of appearance."""
    options = dict.fromkeys(option for run in runs for option in run.words if option not in ("method", "seed"))
    values = {option: list(dict.fromkeys(run.words.get(option, "") for run in runs)) for option in options}
    return {option: distinct for option, distinct in values.items() if len(distinct) > 1}


def _fixes(option: str, swept: Mapping[str, object]) -> bool:
    """Whether an option sets the recipe of all runs."""
    return option not in swept and (option.startswith("method.") or option.partition(".")[0] in CHANGES)


def _fewer(runs: Sequence[Swept], swept: Values, *, full: int) -> str:
    """List methods that finished fewer runs than the full product; empty if there are none."""
    finished: dict[str, set[tuple[str, ...]]] = {}
    for run in runs:
        combination = (str(run.config.seed), *(run.words.get(option, "") for option in swept))
        finished.setdefault(run.config.method.name, set()).add(combination)
    fewer = [f"{method} {len(done)} of {full} runs" for method, done in finished.items() if len(done) < full]
    return f"; fewer runs finished: {', '.join(fewer)}" if fewer else ""


def _product(values: Values) -> int:
    return math.prod(map(len, values.values()))


def _spelled(values: Values) -> str:
    return " x ".join(f"{option} {', '.join(distinct)}" for option, distinct in values.items())
