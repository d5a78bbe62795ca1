"""In which precision a stage trains, after ``model.dtype`` and ``model.precision``."""

from __future__ import annotations

from meow_lightning.stages.base import StageContext

LIGHTNING = {"float32": "32-true", "float64": "64-true", "bfloat16": "bf16-true", "float16": "16-true"}
MIXED = "bf16-mixed"


def reproducible(work: StageContext) -> bool:
    """Whether training ends in the same weights on every machine: computed in float64, rounded after every step."""
    return bool(work.settings["model"]["precision"] == "reproducible")


def trained_dtype(work: StageContext) -> str:
    """The precision that weights are trained in; a base that adapters leave frozen needs no float32 copy."""
    wish = work.settings["model"]
    if reproducible(work):
        return "float64"
    return "float32" if _mixed(work) and wish["lora"] is None else str(wish["dtype"])


def lightning_precision(work: StageContext) -> str:
    """Lightning's precision: what it casts the weights to, or ``32-true`` where it shall leave them as they are."""
    if work.settings["model"]["lora"] is not None:
        return LIGHTNING["float64" if trained_dtype(work) == "float64" else "float32"]
    return MIXED if _mixed(work) else LIGHTNING[trained_dtype(work)]


def _mixed(work: StageContext) -> bool:
    wish = work.settings["model"]
    return bool(wish["precision"] == "mixed" and wish["dtype"] == "bfloat16")
