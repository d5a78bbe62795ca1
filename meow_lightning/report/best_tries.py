"""The best try of every method in a sweep over recipes, chosen on rows that the reported numbers leave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from meow_lightning.evaluation.checkpoint_selection import Epoch, is_better
from meow_lightning.report.data import DASH, arrow, format_value, label, number
from meow_lightning.report.sweep_tables import Swept, Table, without_seed

RECIPE = "optim."  # of the options that are tried


def best_tries(runs: Sequence[Swept], epochs: Mapping[str, tuple[int, Epoch]], columns: Sequence[str]) -> Table | None:
    """Compare methods by the best of their tries, which differ in the options of the recipe alone.

    The tries of a method on one seed rank by :func:`~meow_lightning.evaluation.checkpoint_selection.is_better` on the
    held-out rows, as do the epochs within each of them; the numbers are those on the other rows, as means over seeds.

    Args:
        runs: All finished runs.
        epochs: Number and metrics of the epoch that each run selected, by its name; runs that train nothing or take
            their last epoch are left out.
        columns: Names of the numbers.

    Returns:
        ``None`` unless a method has several tries on one seed.
    """
    varied = _varied(runs)
    tried: dict[str, dict[int, list[Swept]]] = {}
    for run in runs:
        if run.name in epochs:
            tried.setdefault(_without(varied, run.name), {}).setdefault(run.config.seed, []).append(run)
    if not any(len(tries) > 1 for seeds in tried.values() for tries in seeds.values()):
        return None
    rows = [["run", "tries", "best try", *(f"{label(runs[0].results, each)} {_arrow(runs, each)}" for each in columns)]]
    for name, seeds in tried.items():
        best = [_best(tries, epochs) for tries in seeds.values()]
        chosen = [f"{_spelled(run, varied)}epoch {epochs[run.name][0]}" for run in best]
        counts = dict.fromkeys(str(len(tries)) for tries in seeds.values())
        rows.append([name, "/".join(counts), "; ".join(chosen), *(_mean(best, each) for each in columns)])
    return "the best of each method's tries, chosen on the held-out rows and measured on the others", rows


def _varied(runs: Sequence[Swept]) -> list[str]:
    """List the options of the recipe that differ between runs."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for option, value in run.words.items():
            values.setdefault(option, set()).add(value)
    return [option for option, each in values.items() if option.startswith(RECIPE) and len(each) > 1]


def _without(options: Sequence[str], name: str) -> str:
    return " ".join(word for word in without_seed(name).split() if word.partition("=")[0] not in options) or "all"


def _spelled(run: Swept, options: Sequence[str]) -> str:
    return "".join(f"{option.removeprefix(RECIPE)}={run.words[option]}, " for option in options if option in run.words)


def _best(tries: Sequence[Swept], epochs: Mapping[str, tuple[int, Epoch]]) -> Swept:
    best = tries[0]
    for run in tries[1:]:
        if is_better(epochs[run.name][1], epochs[best.name][1]):
            best = run
    return best


def _arrow(runs: Sequence[Swept], name: str) -> str:
    return next((found for run in runs if (found := arrow(run.results, name))), "")


def _mean(runs: Sequence[Swept], name: str) -> str:
    known = [value for run in runs if (value := number(run.results, "unlearned", name)) is not None]
    return format_value(name, fmean(known)) if known else DASH
