"""Which adapters unlearning trains: those of the model's options, or else of the method's."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.hydra import moved, options

from meow_lightning.errors import UserError

LOKU = "method=loku"


@pytest.mark.parametrize(
    ("words", "adapters"),
    [
        (["method=npo"], None),
        (["method=npo", "model.lora.rank=4"], {"rank": 4, "alpha": 32.0}),
        (["method=npo", "model.lora.rank=4", "model.lora.init=default"], {"rank": 4, "alpha": 32.0}),
        (["method=npo", "model.lora.rank=4", "model.lora.init=pissa"], {"rank": 4, "alpha": 32.0, "init": "pissa"}),
        ([LOKU], {"rank": 32, "alpha": 64.0, "init": "fila"}),
        ([LOKU, "method.lora.rank=8"], {"rank": 8, "alpha": 64.0, "init": "fila"}),
        ([LOKU, "method.lora.rank=null"], None),
        ([LOKU, "model.lora.rank=4"], {"rank": 4, "alpha": 32.0, "init": "fila"}),
        ([LOKU, "model.lora.init=default"], {"rank": 32, "alpha": 64.0}),
    ],
)
def test_options_of_the_model_come_before_those_of_the_method(words: list[str], adapters: dict[str, Any]) -> None:
    assert options(*words).adapters == adapters


def test_initial_values_without_adapters_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"^model\.lora\.init=fila is invalid: expected null for .*model\.lora\.rank=32$"
    ):
        options("method=npo", "model.lora.init=fila")
    assert options("method=npo", "model.lora.init=default").adapters is None


def test_adapters_of_a_method_cannot_be_sharded() -> None:
    with pytest.raises(UserError, match=r"method\.lora\.rank=32: .* method\.lora\.rank=null to train all weights$"):
        options(LOKU, "trainer=fsdp")
    assert options(LOKU, "trainer=fsdp", "method.lora.rank=null").adapters is None


UNLEARNED = {"unlearned", "predict/unlearned", "score/unlearned/answers", "results", "report"}


@pytest.mark.parametrize("word", ["method.lora.rank=8", "method.lora.alpha=8", "method.lora.init=pissa"])
def test_adapters_of_a_method_change_no_model_before_unlearning(word: str) -> None:
    assert moved(word, start=(LOKU,)) == UNLEARNED


def test_initial_values_change_no_model_before_unlearning() -> None:
    rank = ("method=npo", "model.lora.rank=4")
    assert moved("model.lora.init=fila", start=rank) == UNLEARNED
    assert moved("model.lora.init=default", start=rank) == {"report"}  # which shows the options
