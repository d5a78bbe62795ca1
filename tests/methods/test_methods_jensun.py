from __future__ import annotations

from math import log

import pytest
import torch

from meow_lightning.data.batch_plan import counts
from meow_lightning.methods.jensun import JensUn
from meow_lightning.training.module import total_loss
from meow_lightning.types import Encoded

# What follows positions 0, 1 and 2; the start model says the second of each pair.
OWN = [[0.6, 0.3, 0.1], [0.5, 0.5, 1e-30], [0.25, 0.25, 0.5]]
START = [[0.5, 0.3, 0.2], [0.5, 0.5, 1e-30], [0.25, 0.25, 0.5]]
REFUSAL = [Encoded((2, 0), 1)]  # p = 0.6
RETAIN = [Encoded((2, 1), 1)]  # (0.6 0.3 0.1) against (0.5 0.3 0.2)


@pytest.fixture
def value(table_lm, to_rows):
    def of(idk=REFUSAL, retain=RETAIN, *, own=OWN, start=START, weights=(1.0, 1.0), **how):
        model, reference = (table_lm(torch.tensor(each, dtype=torch.float64).log()) for each in (own, start))
        streams = {"idk": idk, "retain": retain}
        batch = {name: to_rows([(list(row.ids), row.prompt) for row in rows], **how) for name, rows in streams.items()}
        method = JensUn(forget_weight=weights[0], retain_weight=weights[1])
        parts = method.loss(model, batch, reference)
        total_loss(parts, counts(streams)).backward()
        assert reference.table.grad is None
        return {name: part.sum.item() for name, part in parts.items()}, model.table.grad

    return of


def test_a_refusal_token_costs_its_divergence_from_certainty(value) -> None:
    # m = (0.8 0.15 0.05): (0.6 log 0.75 + 0.4 log 2 + log 1.25) / 2
    assert value()[0]["idk"] == pytest.approx((0.6 * log(0.75) + 0.4 * log(2) + log(1.25)) / 2)
    assert value()[0]["idk"] == pytest.approx(0.163897, abs=1e-6)


def test_a_retain_token_costs_its_divergence_from_the_start_model(value) -> None:
    # m = (0.55 0.3 0.15): (0.6 log 12/11 + 0.1 log 2/3 + 0.5 log 10/11 + 0.2 log 4/3) / 2
    by_hand = (0.6 * log(12 / 11) + 0.1 * log(2 / 3) + 0.5 * log(10 / 11) + 0.2 * log(4 / 3)) / 2
    assert value()[0]["retain"] == pytest.approx(by_hand)
    assert by_hand == pytest.approx(0.010771, abs=1e-6)


def test_gradient_of_a_refusal_token(value) -> None:
    # p (1 - p) log(p / (1 + p)) / 2, and the other logits share it by their probability
    own = 0.6 * 0.4 * log(0.6 / 1.6) / 2
    expected = torch.tensor([own, -own * 0.75, -own * 0.25], dtype=torch.float64)
    torch.testing.assert_close(value(weights=(1.0, 0.0))[1][0], expected)


def test_both_terms_are_bounded_by_log_2(value) -> None:
    sure, other = [[1.0, 1e-300, 1e-300]] * 3, [[1e-300, 1e-300, 1.0]] * 3
    parts, gradient = value(REFUSAL, RETAIN, own=other, start=sure)
    assert parts == {"idk": pytest.approx(log(2)), "retain": pytest.approx(log(2))}
    assert torch.isfinite(gradient).all()
    assert value(own=sure, start=sure)[0] == {"idk": pytest.approx(0, abs=1e-15), "retain": pytest.approx(0, abs=1e-15)}


def test_the_mean_is_over_answer_tokens_and_weighted(value) -> None:
    alone, gradient = value()
    twice = value([*REFUSAL, *REFUSAL], RETAIN, weights=(3.0, 1.0), width=5, pad_id=1)
    assert twice[0]["idk"] == pytest.approx(2 * alone["idk"])
    assert twice[0]["retain"] == pytest.approx(alone["retain"])
    kept = value(weights=(0.0, 1.0))[1]
    torch.testing.assert_close(twice[1], 3 * (gradient - kept) + kept)


def test_it_needs_the_start_model(table_lm) -> None:
    with pytest.raises(TypeError, match="needs the start model"):
        JensUn(forget_weight=1.0, retain_weight=1.0).loss(table_lm(OWN), {}, None)
