from __future__ import annotations

import typing

import pytest
from helpers.hydra import options

from meow_lightning.config.model_options import Model
from meow_lightning.config.precision import DTYPE_BYTES, PRECISIONS, Precision, precision_of
from meow_lightning.errors import UserError

HALF = ("bf16-true", "16-true", "bf16-mixed")


def test_the_schema_allows_what_has_formats() -> None:
    assert typing.get_args(Model.model_fields["precision"].annotation) == tuple(PRECISIONS)


@pytest.mark.parametrize(
    ("name", "weights", "trained", "compute", "lightning"),
    [
        ("32-true", "float32", "float32", "float32", "32-true"),
        ("64-true", "float64", "float64", "float64", "64-true"),
        ("bf16-true", "bfloat16", "bfloat16", "bfloat16", "bf16-true"),
        ("16-true", "float16", "float16", "float16", "16-true"),
        ("bf16-mixed", "bfloat16", "float32", "bfloat16", "bf16-mixed"),
        ("reproducible", "float32", "float64", "float64", "64-true"),
    ],
)
def test_formats_of_a_training_of_all_weights(name, weights, trained, compute, lightning) -> None:
    found = precision_of(name, adapters=False)
    assert found == Precision(
        weights=weights, trained=trained, compute=compute, lightning=lightning, reproducible=name == "reproducible"
    )


@pytest.mark.parametrize("name", PRECISIONS)
def test_adapters_stand_on_frozen_weights_as_they_compute_and_are_not_cast(name: str) -> None:
    found, whole = precision_of(name, adapters=True), precision_of(name, adapters=False)
    assert found.trained == found.compute == whole.compute
    assert found.lightning == ("64-true" if DTYPE_BYTES[found.compute] == 8 else "32-true")
    assert (found.weights, found.reproducible) == (whole.weights, whole.reproducible)


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_teacher_is_loaded_as_the_model_is_evaluated(name: str) -> None:
    chosen = options("inversion=local", "inversion.model=x", f"model.precision={name}")
    assert DTYPE_BYTES[chosen.inversion.arguments["dtype"]] == (2 if name in HALF else 8 if name == "64-true" else 4)


@pytest.mark.parametrize("name", ["bf16-true", "16-true"])
def test_weights_of_16_bits_cannot_hold_a_perturbation_but_adapters_can(name: str) -> None:
    with pytest.raises(UserError, match=rf"^model\.precision={name} is invalid.*Did you mean bf16-mixed\?$"):
        options("optim.sam_rho=0.01", f"model.precision={name}")
    assert options("optim.sam_rho=0.01", f"model.precision={name}", "model.lora.rank=4").optim.sam_rho == 0.01
    assert options("method=loku", "optim.sam_rho=0.01", f"model.precision={name}").optim.sam_rho == 0.01
