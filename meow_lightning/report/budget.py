"""What every method of a sweep was granted, in one line: a table of methods says nothing without it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from meow_lightning.report.sweep_tables import Swept

PLACES = ("model", "dataset", "dataset.split")  # where methods are compared: nothing of them is tuned by these
CHANGES = ("optim", "debug", "experiment")  # besides `method.` what sets a recipe for every run alike

Values = dict[str, list[str]]


def budget(runs: Sequence[Swept]) -> str:
    """How many settings every method got, of what, where and on which seeds; and which methods finished fewer.

    A method's runs are the product of all values met: settings x places x seeds.

    Args:
        runs: All finished runs, at least one.
    """
    swept = _swept(runs)
    places = {option: values for option, values in swept.items() if option in PLACES}
    tuned = {option: values for option, values in swept.items() if option not in PLACES}
    seeds = sorted({run.settings["seed"] for run in runs})
    fixed = ", ".join(f"{option}={value}" for option, value in runs[0].words.items() if _fixes(option, swept))
    listed = ", ".join(map(str, seeds))
    parts = [
        f"{_product(tuned)} settings per method ({_spelled(tuned)})" if tuned else "recipes as in conf",
        f"with {fixed}" if fixed else "",
        f"for each of {_spelled(places)}" if places else "",
        f"each on seed {listed}" if len(seeds) == 1 else f"each on {len(seeds)} seeds ({listed})",
    ]
    said = ", ".join(part for part in parts if part)
    return f"budget: {said}{_fewer(runs, swept, full=_product(swept) * len(seeds))}"


def _swept(runs: Sequence[Swept]) -> Values:
    """The values of every option but method and seed that differs between runs, in the order they are met."""
    options = dict.fromkeys(option for run in runs for option in run.words if option not in ("method", "seed"))
    values = {option: list(dict.fromkeys(run.words.get(option, "") for run in runs)) for option in options}
    return {option: each for option, each in values.items() if len(each) > 1}


def _fixes(option: str, swept: Mapping[str, object]) -> bool:
    return option not in swept and (option.startswith("method.") or option.partition(".")[0] in CHANGES)


def _fewer(runs: Sequence[Swept], swept: Values, *, full: int) -> str:
    """Which methods finished fewer runs than all values make; empty where all did the same."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for run in runs:
        own = (str(run.settings["seed"]), *(run.words.get(option, "") for option in swept))
        found.setdefault(run.settings["method"]["name"], set()).add(own)
    fewer = [f"{method} {len(own)} of {full} runs" for method, own in found.items() if len(own) < full]
    return f"; not the same for all: {', '.join(fewer)}" if fewer else ""


def _product(values: Values) -> int:
    return math.prod(map(len, values.values()))


def _spelled(values: Values) -> str:
    return " x ".join(f"{option} {', '.join(each)}" for option, each in values.items())
