"""Made-up finished runs of a sweep."""

from __future__ import annotations

from functools import cache
from typing import Any

from helpers.hydra import options, with_values
from meow_lightning.config.schema import RunConfig
from meow_lightning.report.sweep_tables import Swept
from meow_lightning.types import Definition, Results

QUALITY = Definition(
    name="forget_quality", id="f.1", unit="p", direction="higher", text="p.", label="forget quality (p)", order=1,
    main=True,
)  # fmt: skip


def swept(*words: str, values: dict[str, dict[str, float]] | None = None, **changes: Any) -> Swept:
    """Build a finished run of the tiny model with some overrides; ``changes`` set further options."""
    given = dict(word.split("=", 1) for word in words)
    method = given.get("method", "meow")
    named = {
        "model.name": given.get("model", "tiny"), "dataset.name": given.get("dataset", "fictional"),
        "dataset.split": given.get("dataset.split", "forget10"), "seed": int(given.get("seed", 0)),
    }  # fmt: skip
    config = with_values(_options(method), named | changes)
    return Swept(
        name=" ".join(words), words=given, config=config, results=Results(definitions=(QUALITY,), values=values or {})
    )


@cache
def _options(method: str) -> RunConfig:
    return options(f"method={method}")
