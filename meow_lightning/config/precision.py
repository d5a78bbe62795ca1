"""The values of ``model.precision`` and the number formats that each implies; defined only here."""

from __future__ import annotations

from dataclasses import dataclass, replace

DTYPE_BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """The number formats of a model.

    Attributes:
        weights: Format of the weights that are saved and evaluated.
        trained: Format of the weights during training, frozen ones included.
        compute: Format of the forward and backward passes of training.
        lightning: The ``precision`` of Lightning's Trainer, which casts the weights; ``32-true`` casts nothing.
        reproducible: Whether training gives the same weights on every machine, by rounding them to a grid after every
            step.
    """

    weights: str
    trained: str
    compute: str
    lightning: str
    reproducible: bool = False


PRECISIONS = {
    "32-true": Precision(weights="float32", trained="float32", compute="float32", lightning="32-true"),
    "64-true": Precision(weights="float64", trained="float64", compute="float64", lightning="64-true"),
    "bf16-true": Precision(weights="bfloat16", trained="bfloat16", compute="bfloat16", lightning="bf16-true"),
    "16-true": Precision(weights="float16", trained="float16", compute="float16", lightning="16-true"),
    "bf16-mixed": Precision(weights="bfloat16", trained="float32", compute="bfloat16", lightning="bf16-mixed"),
    "reproducible": Precision(
        weights="float32", trained="float64", compute="float64", lightning="64-true", reproducible=True
    ),
}


def precision_of(name: str, *, adapters: bool) -> Precision:
    """Resolve the number formats of a value of ``model.precision``.

    Args:
        name: One of ``PRECISIONS``.
        adapters: Whether adapters are trained instead of all weights. Frozen weights need no float32 copy, and
            Lightning must not cast the adapters, which are at least float32.
    """
    full = PRECISIONS[name]
    if not adapters:
        return full
    return replace(full, trained=full.compute, lightning="64-true" if full.compute == "float64" else "32-true")


def weights_dtype(name: str) -> str:
    """Resolve ``${weights_dtype:…}`` in a config; an unknown name is returned unchanged and rejected by validation."""
    return PRECISIONS[name].weights if name in PRECISIONS else name
