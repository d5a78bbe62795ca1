"""The values of ``model.precision`` and the number formats that each stands for; nothing else derives them."""

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
        lightning: Lightning's name of it: what the Trainer casts weights to; ``32-true`` casts nothing.
        reproducible: Whether training ends in the same weights on every machine: they are rounded to a grid after
            every step.
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
    """The number formats behind a value of ``model.precision``.

    Args:
        name: One of ``PRECISIONS``.
        adapters: Whether adapters are trained in the place of all weights. Frozen weights need no float32 copy, and
            Lightning must not cast adapters, which are float32 at least.
    """
    found = PRECISIONS[name]
    if not adapters:
        return found
    return replace(found, trained=found.compute, lightning="64-true" if found.compute == "float64" else "32-true")


def weights_dtype(name: str) -> str:
    """Resolve ``${weights_dtype:…}`` in a config; an unknown name stays as it is, for the check of its option."""
    return PRECISIONS[name].weights if name in PRECISIONS else name
