"""Made-up finished runs of a sweep."""

from __future__ import annotations

from typing import Any

from meow_lightning.report.sweep_tables import Swept
from meow_lightning.types import Definition, Results

QUALITY = Definition(
    name="forget_quality", id="f.1", unit="p", direction="higher", text="p.", label="forget quality (p)", order=1,
    main=True,
)  # fmt: skip


def swept(*words: str, values: dict[str, dict[str, float]] | None = None, **changes: Any) -> Swept:
    """Build a finished run of the tiny model with some overrides; ``changes`` replace fields of the record."""
    given = dict(word.split("=", 1) for word in words)
    settings = {
        "model": {"name": given.get("model", "tiny")},
        "dataset": {"name": given.get("dataset", "fictional"), "split": given.get("dataset.split", "forget10")},
        "method": {"name": given.get("method", "meow")}, "seed": int(given.get("seed", 0)), "limit": None,
        "disclaimer": None, "evaluation": {"truth_ratio_mean": "geometric"},
    }  # fmt: skip
    results = Results(definitions=(QUALITY,), values=values or {})
    return Swept(name=" ".join(words), words=given, settings=settings | changes, results=results)
