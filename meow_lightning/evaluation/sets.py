"""Purpose and scoring of evaluation sets: what a dataset says, and what a set's name means where it says nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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


def benchmark_of(sets: Sequence[SetInfo]) -> tuple[SetInfo, ...]:
    """Derive the benchmark of a dataset: TOFU's, with the dataset's own sets in the place of those of the same name.

    Further sets follow. If one of them measures utility, the benchmark's other utility sets do not count, since the
    dataset brings its own.

    Args:
        sets: The dataset's sets, in reporting order.
    """
    own = {info.name: info for info in sets}
    others = [info for info in sets if info.name not in _BY_NAME]
    replaced = any(info.purpose == "utility" for info in others)
    known = [own.get(info.name, info) for info in BENCHMARK]
    return (*(info for info in known if info.name in own or not (replaced and info.purpose == "utility")), *others)


def benchmark_from(settings: Mapping[str, Any]) -> tuple[SetInfo, ...]:
    """Read the benchmark from the settings of an evaluation: their entry ``benchmark``, or TOFU's without one."""
    return tuple(SetInfo(*info) for info in settings["benchmark"]) if "benchmark" in settings else BENCHMARK
