"""Activation patching: losses worked out by hand, the score of the models that it lies between, a planted fact."""

from __future__ import annotations

from math import log

import pytest
from helpers.layers import AddingLM
from hypothesis import given
from hypothesis import strategies as st

from meow_lightning.attacks.activation_patching import ActivationPatching, unlearning_depth_score
from meow_lightning.errors import UserError
from meow_lightning.types import Encoded

PATCHING = ActivationPatching(threshold=0.05)
ROW = Encoded(ids=(1, 1, 0, 1), prompt=2)  # the value is the tokens 0 and 1
LOSSES = st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=6)


def target() -> AddingLM:
    return AddingLM((log(3), 0), (log(3), 0))  # logits (ln 9, 0): p = 9/10 and 1/10


def read(model: AddingLM, rows: int = 1, batch: int = 8, of: AddingLM | None = None) -> list[list[float]]:
    return list(PATCHING.read(model, [ROW] * rows, target=of or target(), pad_id=1, batch=batch))


@pytest.mark.parametrize("in_tuple", [False, True])
def test_the_loss_is_the_mean_over_the_tokens_of_the_value(in_tuple: bool) -> None:
    # The target's mean log-probability is (ln 9/10 + ln 1/10) / 2. With layer 1 of the retain model its logits are
    # (ln 3, 0): 3/4 and 1/4. With layer 2 they are the retain model's own, (0, ln 3): 1/4 and 3/4.
    retain = AddingLM((0, 0), (0, log(3)), in_tuple=in_tuple)
    whole, patched = (log(0.9) + log(0.1)) / 2, (log(0.75) + log(0.25)) / 2
    assert read(retain) == [pytest.approx([whole - patched, whole - patched])]
    first = [row._replace(ids=row.ids[:3]) for row in [ROW]]  # the first token alone
    (lost,) = PATCHING.read(retain, first, target=target(), pad_id=1, batch=1)
    assert lost == pytest.approx([log(0.9 / 0.75), log(0.9 / 0.25)])


def test_a_model_patched_with_itself_loses_nothing() -> None:
    (lost,) = read(target())
    assert lost == pytest.approx([0.0, 0.0], abs=1e-12)


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_a_batch_takes_a_pass_per_layer_and_changes_nothing(batch: int) -> None:
    of, retain = target(), AddingLM((0, 0), (0, log(3)))
    (one,) = read(AddingLM((0, 0), (0, log(3))))
    assert read(retain, rows=5, batch=batch, of=of) == [pytest.approx(one)] * 5
    assert (of.passes, retain.passes) == (3 * -(-5 // batch), -(-5 // batch))


def test_models_of_other_depth_cannot_be_patched() -> None:
    with pytest.raises(ValueError, match="as many layers"):
        read(AddingLM((0, 0)))
    with pytest.raises(ValueError, match="needs a target model"):
        next(PATCHING.read(target(), [ROW], target=None, pad_id=1, batch=1))


def test_the_score_weighs_the_layers_by_what_the_retain_model_lacks() -> None:
    # Layers 2 and 3 hold the fact, with weights 1 and 3: clip(.5 / 1) and clip(4 / 3) give (.5 * 1 + 1 * 3) / 4.
    assert unlearning_depth_score([9.0, 0.5, 4.0], [0.05, 1.0, 3.0], threshold=0.05) == pytest.approx(3.5 / 4)
    assert unlearning_depth_score([9.0, -0.5, 0.75], [0.05, 1.0, 3.0], threshold=0.05) == pytest.approx(0.75 / 4)
    assert unlearning_depth_score([1.0], [0.01], threshold=0.05) is None
    assert unlearning_depth_score([1.0], [-1.0], threshold=0.0) is None


@given(losses=LOSSES)
def test_the_score_lies_between_the_target_and_the_retain_model(losses: list[tuple[float, float]]) -> None:
    own, retain = map(list, zip(*losses, strict=True))
    score = unlearning_depth_score(own, retain, threshold=0.05)
    if score is not None:
        assert 0 <= score <= 1
        assert unlearning_depth_score([0.0] * len(retain), retain, threshold=0.05) == 0
        assert unlearning_depth_score(retain, retain, threshold=0.05) == pytest.approx(1)


def test_a_fact_in_the_states_is_found_and_one_that_is_gone_is_not() -> None:
    first = [ROW._replace(ids=ROW.ids[:3])]

    def score(model: AddingLM) -> float | None:
        retain, own = (
            next(PATCHING.read(each, first, target=target(), pad_id=1, batch=1))
            for each in (AddingLM((0, 0), (0, log(9))), model)
        )
        return PATCHING.values("unlearned", {"retain": retain, "unlearned": own})["uds"]

    # Both answer as the retain model does. The first holds the fact after layer 1, the second nowhere.
    hiding, erased = AddingLM((log(3), 0), (-log(3), log(9))), AddingLM((0, log(9)), (0, 0))
    lower, upper = log(0.9 / 0.75), log(0.9 / 0.1)  # D of the retain model after layer 1 and 2
    assert score(hiding) == pytest.approx(upper / (lower + upper))
    assert score(erased) == pytest.approx(1.0)
    assert score(target()) == pytest.approx(0.0, abs=1e-12)


def test_the_target_model_scores_0_unread_and_nothing_is_known_without_a_retain_model() -> None:
    assert PATCHING.values("target", {"retain": [1.0, 2.0]}) == {"uds": 0.0}
    assert PATCHING.values("retain", {"retain": [1.0, 2.0]}) == {"uds": 1.0}
    assert PATCHING.values("unlearned", {"unlearned": [1.0, 2.0]}) == {}


def test_a_threshold_is_not_negative() -> None:
    with pytest.raises(UserError, match=r"^attacks\.threshold=-1"):
        ActivationPatching(threshold=-1)
