"""Purpose and scoring of evaluation sets, by name: the only place that knows what a set's name means."""

from __future__ import annotations

from collections.abc import Iterable

from meow_lightning.types import SetInfo

BENCHMARK = (
    SetInfo("forget", "forget", "free"),
    SetInfo("retain", "retain", "free"),
    SetInfo("real_authors", "utility", "options"),
    SetInfo("world_facts", "utility", "options"),
    SetInfo("holdout", "holdout", "free"),
)
"""The sets of TOFU's benchmark (Maini et al. 2024) and a holdout set, in reporting order."""

_BY_NAME = {info.name: info for info in BENCHMARK}


def set_info(name: str) -> SetInfo:
    """Look up a set; one that the benchmark does not name counts as neighbours of the forget set.

    Args:
        name: Name of the set.
    """
    return _BY_NAME.get(name, SetInfo(name, "near", "free"))


def set_infos(names: Iterable[str]) -> tuple[SetInfo, ...]:
    """Look up several sets, in reporting order: those of the benchmark first, then the others by name.

    Args:
        names: Names of the sets.
    """
    known = set(names)
    others = sorted(known - _BY_NAME.keys())
    return (*(info for info in BENCHMARK if info.name in known), *map(set_info, others))
