"""Trust in metrics: separation of models with and without the facts (AUC), stability under relearning and rounding.

AUC, R, Q and their means are those of the meta-evaluation in arXiv 2605.24614 (UDS), for pools of this sweep.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean, harmonic_mean
from typing import Any

import yaml

from meow_lightning.config.files import EXPERIMENTS
from meow_lightning.evaluation.metric import is_coverage
from meow_lightning.evaluation.metrics.membership import auc
from meow_lightning.evaluation.robustness import SMALLEST, robustness, stability
from meow_lightning.evaluation.subject import Subject
from meow_lightning.report.data import DASH, around_attack, number
from meow_lightning.report.sweep_tables import Swept, Table
from meow_lightning.store.durable import write_text
from meow_lightning.types import Definition, Results

KNOWING = ("forget/", "memo/answers", "membership/", "layers/", "extraction/")  # numbers about the forgotten facts
RELATIVE = ("_excess", "/erasure", "/uds", "/reference_auc")  # of these, those whose zero is the retain model itself
COUNTED = ("count", "questions")  # units of numbers that describe a set
RELEARNING, ROUNDING = "relearn", "quantise_int4"  # the attacks behind R and Q
FILE = EXPERIMENTS / "expected" / "trust" / "metric_trust.yaml"
LEADING = 0.8  # trust of the metrics that a page leads with
FEWEST = 3  # models of each kind, below which an AUC says nothing

Pools = Mapping[str, tuple[str, str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Measured trust in one metric.

    Attributes:
        name: Name of the metric.
        condition: Name of the attack under which it was measured; empty for none.
        label: How tables name it.
        auc: Probability that a model that knows the facts has the larger number than one that never saw them, or the
            smaller one where that means knowing; ties count half. 0.5 to tell nothing, 1 to tell all.
        relearning: Mean R over the unlearned models, 0 to 1; ``None`` if it was not measured.
        rounding: Mean Q over the unlearned models, 0 to 1; ``None`` if it was not measured.
    """

    name: str
    condition: str
    label: str
    auc: float
    relearning: float | None
    rounding: float | None

    @property
    def overall(self) -> float | None:
        """Harmonic mean of the AUC and of R and Q's own harmonic mean; ``None`` without R or Q."""
        if self.relearning is None or self.rounding is None:
            return None
        return harmonic_mean([self.auc, harmonic_mean([self.relearning, self.rounding])])


def trusts(runs: Sequence[Swept], pools: Pools, unlearned: Collection[str]) -> list[Trust]:
    """Measure how far every metric about the forgotten facts can be trusted, the most trusted first.

    Args:
        runs: The finished runs of a sweep.
        pools: By name of a run, the keys of its target and its retain model; each model counts once.
        unlearned: The names of runs whose method unlearns.

    Returns:
        Empty unless there are :data:`FEWEST` models of each kind.
    """
    targets, retained = _one_per_model(runs, pools, 0), _one_per_model(runs, pools, 1)
    if min(len(targets), len(retained)) < FEWEST:
        return []
    moved = [run.results for run in runs if run.name in unlearned]
    conditions = dict.fromkeys(name for run in runs for name in ("", *run.results.conditions))
    found = []
    for condition in conditions:
        for known in _defined(runs):
            knowing = _numbers(targets, Subject("target", condition), known.name)
            others = _numbers(retained, Subject("retain", condition), known.name)
            if min(len(knowing), len(others)) >= FEWEST:
                found.append(_trust(known, condition, knowing, others, () if condition else moved))
    return sorted(found, key=lambda each: (-(each.overall or 0.0), -each.auc, each.label))


def measured_on(pools: Pools, *, unlearned: int) -> str:
    """Describe the models that the trust in metrics was measured on.

    Args:
        pools: By name of a run, the keys of its target and its retain model.
        unlearned: Number of unlearned models.
    """
    targets, retained = ({key for pair in pools.values() if (key := pair[which])} for which in (0, 1))
    return (
        f"AUC of telling {len(targets)} models with the facts from {len(retained)} without, R and Q over {unlearned} "
        "unlearned models"
    )


def trust_table(found: Sequence[Trust], measured: str) -> Table:
    """Build (title, rows with header) of the measured metrics.

    Args:
        found: The metrics.
        measured: Result of :func:`measured_on`.
    """
    rows = [["metric", "AUC", "R, relearning", "Q, int4", "overall"]]
    for each in found:
        shares = (each.auc, each.relearning, each.rounding, each.overall)
        rows.append([each.label, *(DASH if share is None else f"{share:.2f}" for share in shares)])
    return f"which metrics to trust: {measured}", rows


def write_trusts(found: Sequence[Trust], path: Path, *, measured: str, command: str) -> None:
    """Write the metrics of the models themselves, in the form that :func:`read_trusts` reads.

    Args:
        found: The metrics.
        path: The file.
        measured: What was measured.
        command: The command line of the sweep.
    """
    metrics = {
        each.name: {"auc": each.auc, "relearning": each.relearning, "rounding": each.rounding, "overall": each.overall}
        for each in found if not each.condition
    }  # fmt: skip
    content = {"measured": measured, "command": command, "metrics": metrics}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    write_text(path, f"# How far each metric can be trusted; pages of runs list the most trusted first.\n{text}")


@lru_cache(maxsize=2)
def read_trusts(path: Path) -> dict[str, Any]:
    """Read what :func:`write_trusts` wrote: ``measured``, ``command``, and ``metrics`` by name."""
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def leading(names: Sequence[str], trust: Mapping[str, Any]) -> list[str]:
    """Select the names whose metric earned :data:`LEADING` overall, the most trusted first.

    Args:
        names: Names of metrics.
        trust: Result of :func:`read_trusts`; empty if nothing was measured.
    """
    overall = {name: each["overall"] or 0.0 for name, each in trust.get("metrics", {}).items()}
    return sorted((name for name in names if overall.get(name, 0.0) >= LEADING), key=lambda name: -overall[name])


def _trust(
    known: Definition, condition: str, knowing: Sequence[float], others: Sequence[float], moved: Iterable[Results]
) -> Trust:
    area, results = auc(knowing, others), list(moved)
    # the direction is that of a good number after unlearning: where larger is better, less is known
    larger_is_less = known.direction == "higher" or (known.direction == "none" and area < 0.5)
    return Trust(
        name=known.name, condition=condition,
        label=f"{known.label}{f' ({condition})' * bool(condition)}",
        auc=1 - area if larger_is_less else area,
        relearning=_mean(_relearned(each, known.name) for each in results),
        rounding=_mean(_rounded(each, known.name) for each in results),
    )  # fmt: skip


def _relearned(results: Results, name: str) -> float | None:
    own, floor = (around_attack(results, role, RELEARNING, name) for role in ("unlearned", "retain"))
    if own is None or floor is None:
        return None
    unlearned, retain = own[1] - own[0], floor[1] - floor[0]
    return None if abs(unlearned) + abs(retain) < SMALLEST else robustness(unlearned, retain)


def _rounded(results: Results, name: str) -> float | None:
    ends = around_attack(results, "unlearned", ROUNDING, name)
    if ends is None:
        return None
    return 1.0 if sum(map(abs, ends)) < SMALLEST else stability(*ends)  # it stayed about 0


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _one_per_model(runs: Sequence[Swept], pools: Pools, which: int) -> list[Results]:
    """Select the numbers of one run per model."""
    return list({key: run.results for run in runs if (key := pools[run.name][which]) is not None}.values())


def _numbers(results: Iterable[Results], subject: Subject, name: str) -> list[float]:
    return [value for each in results if (value := number(each, str(subject), name)) is not None]


def _defined(runs: Sequence[Swept]) -> list[Definition]:
    """List the metrics about the forgotten facts that do not take the retain model as their zero."""
    named = {known.name: known for run in runs for known in run.results.definitions}
    return [
        known
        for name, known in named.items()
        if name.startswith(KNOWING) and not name.endswith(RELATIVE) and not is_coverage(name)
        and known.unit not in COUNTED
    ]  # fmt: skip
