"""Further metrics for the results of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from meow_lightning.types import Definition, Results


def extended(
    results: Results, definitions: Iterable[Definition], outcomes: Mapping[str, Mapping[str, float | str]]
) -> Results:  # fmt: skip
    """Add further metrics to those of a run.

    Args:
        results: The metrics of the run.
        definitions: The definitions of the further ones.
        outcomes: Their values, or the reasons why they are missing, by role and name.
    """
    values, missing = dict(results.values), dict(results.missing)
    for role, found in outcomes.items():
        numbers = {name: each for name, each in found.items() if not isinstance(each, str)}
        reasons = {name: each for name, each in found.items() if isinstance(each, str)}
        values[role] = {**values.get(role, {}), **numbers}
        missing[role] = {**missing.get(role, {}), **reasons}
    return replace(results, definitions=(*results.definitions, *definitions), values=values, missing=missing)
