"""Logit lens: probabilities by layer worked out by hand, a fact that the last layer hides, and one nobody holds."""

from __future__ import annotations

from math import log

import pytest
from helpers.layers import AddingLM

from meow_lightning.attacks.logit_lens import LogitLens, erasure
from meow_lightning.errors import UserError
from meow_lightning.types import Encoded

LENS = LogitLens(threshold=0.05)
ROW = Encoded(ids=(1, 1, 0, 1), prompt=2)  # the value is the tokens 0 and 1, of which the first is decoded


def read(model: AddingLM, rows: int = 1, batch: int = 8) -> list[list[float]]:
    return list(LENS.read(model, [ROW] * rows, target=None, pad_id=1, batch=batch))


@pytest.mark.parametrize("in_tuple", [False, True])
def test_every_layer_is_decoded_by_what_follows_the_last_one(in_tuple: bool) -> None:
    # After layer 1 the logits are (ln 3, 0): 3/4. After layer 2 they are (0, ln 9): 1/10.
    hiding = AddingLM((log(3), 0), (-log(3), log(9)), in_tuple=in_tuple)
    assert read(hiding) == [pytest.approx([0.75, 0.1])]
    # A head that doubles the logits: (2 ln 3, 0) gives 9/10, (0, 2 ln 9) gives 1/82.
    assert read(AddingLM((log(3), 0), (-log(3), log(9)), scale=2.0)) == [pytest.approx([0.9, 1 / 82])]


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_a_batch_takes_two_passes_and_changes_nothing(batch: int) -> None:
    model = AddingLM((log(3), 0), (0, 0), (0, log(3)))
    assert read(model, rows=5, batch=batch) == [pytest.approx([0.75, 0.75, 0.5])] * 5
    assert model.passes == 2 * -(-5 // batch)


def test_a_fact_that_the_last_layer_hides_is_found_and_one_that_no_layer_holds_is_not() -> None:
    target, retain = read(AddingLM((log(3), 0), (log(3), 0)))[0], read(AddingLM((0, 0), (0, log(9))))[0]
    hidden = read(AddingLM((log(3), 0), (-log(3), log(9))))[0]
    erased = read(AddingLM((0, 0), (0, log(3))))[0]
    layers = {"target": target, "retain": retain}
    assert target == pytest.approx([0.75, 0.9])
    assert retain == pytest.approx([0.5, 0.1])
    found = LENS.values("unlearned", {**layers, "unlearned": hidden})
    assert found == pytest.approx({"probability": 0.75, "erasure": 1 - 0.25 / 0.4})
    assert hidden[-1] == retain[-1], "the answers alone do not tell them apart"
    assert LENS.values("unlearned", {**layers, "unlearned": erased})["erasure"] == 1.0


def test_the_target_model_has_erasure_0_and_the_retain_model_1() -> None:
    layers = {"target": [0.2, 0.9], "retain": [0.1, 0.3]}
    assert LENS.values("target", layers) == {"probability": 0.9, "erasure": 0.0}
    assert LENS.values("retain", layers) == {"probability": 0.3, "erasure": 1.0}
    assert LENS.values("target", {"target": [0.2, 0.9]}) == {"probability": 0.9}


def test_erasure_is_clipped_and_needs_a_difference() -> None:
    assert erasure(0.5, target=0.9, retain=0.1, threshold=0.05) == pytest.approx(0.5)
    assert erasure(1.0, target=0.9, retain=0.1, threshold=0.05) == 0.0
    assert erasure(0.0, target=0.9, retain=0.1, threshold=0.05) == 1.0
    assert erasure(0.5, target=0.14, retain=0.1, threshold=0.05) is None
    assert erasure(0.5, target=0.1, retain=0.9, threshold=0.05) is None


@pytest.mark.parametrize("threshold", [-0.1, 1.5])
def test_a_threshold_is_a_share(threshold: float) -> None:
    with pytest.raises(UserError, match=r"^attacks\.threshold="):
        LogitLens(threshold=threshold)
