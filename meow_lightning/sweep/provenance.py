"""How a sweep's tables were made: command, code, machine, seeds, and the stages that they rest on."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from meow_lightning.pipeline.executor import provenance
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.report.sweep_cost import Cost, total_cost
from meow_lightning.report.sweep_tables import Swept
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import MANIFEST
from meow_lightning.store.jsonl import read_json
from meow_lightning.store.store import Store

CPU_INFO = Path("/proc/cpuinfo")


def sweep_provenance(
    runs: Sequence[Swept], *, graphs: Mapping[str, RunGraph], stores: Mapping[str, Store], command: str
) -> dict[str, Any]:
    """Describe how the tables of a sweep were made.

    The stages may be older than the tables: ``stages`` has the commits, thread counts and days of all results that the
    numbers rest on.

    Args:
        runs: The finished runs.
        graphs: Their artifacts, by the name of the run.
        stores: The stores of their results, likewise.
        command: The command line of the sweep.
    """
    return {
        "command": command, "date": time.strftime("%Y-%m-%d"), **provenance(), "processor": processor(),
        "seeds": sorted({run.config.seed for run in runs}),
        "stages": _stages(
            manifests := [
                each for run in runs for each in read_manifests(stores[run.name], graphs[run.name].results.walk())
            ]
        ),
        "runs": {name: made.results.key for name, made in graphs.items()},
        "results": len({manifest["key"] for manifest in manifests}),
    }  # fmt: skip


def provenance_line(made: Mapping[str, Any]) -> str:
    """Describe the most important parts in one sentence."""
    stages = made["stages"]
    seeds = ", ".join(map(str, made["seeds"]))
    commits = ", ".join(stages["commits"]) or "no commit known"
    days = stages["from"] if stages["from"] == stages["to"] else f"{stages['from']} to {stages['to']}"
    threads = ", ".join(map(str, stages["threads"])) or "?"
    return (
        f"made by `{made['command']}` on {made['date']} from {made['results']} results of {days} (code: {commits}; "
        f"threads: {threads}; seeds: {seeds}; {made['processor']})"
    )


def processor() -> str:
    """Name the processor, as reported by the system."""
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def read_manifests(store: Store, artifacts: Iterable[Artifact]) -> list[dict[str, Any]]:
    """Read the manifests of the artifacts that are stored."""
    paths = (store.path(each) / MANIFEST for each in artifacts)
    return [read_json(path) for path in paths if path.is_file()]


def unlearning_cost(store: Store, graph: RunGraph) -> Cost | None:
    """Add up the cost of the stages between a run's target and unlearned model; ``None`` without any."""
    known = {each.key for each in graph.models.target.walk()}
    return total_cost(read_manifests(store, (each for each in graph.models.unlearned.walk() if each.key not in known)))


def _stages(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    commits = {f"{each['commit'][:7]}{'+' * bool(each['dirty'])}" for each in manifests if each.get("commit")}
    days = sorted(time.strftime("%Y-%m-%d", time.gmtime(each["finished"])) for each in manifests)
    return {
        "commits": sorted(commits), "threads": sorted({each["threads"] for each in manifests if each.get("threads")}),
        "hosts": sorted({each["host"] for each in manifests if each.get("host")}),
        "from": days[0] if days else "", "to": days[-1] if days else "",
    }  # fmt: skip
