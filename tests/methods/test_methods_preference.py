from __future__ import annotations

from math import exp, log
from typing import Any

import pytest
import torch

from meow_lightning.data.batch_plan import counts
from meow_lightning.errors import UserError
from meow_lightning.methods.altpo import AltPo
from meow_lightning.methods.ceu import CEU
from meow_lightning.methods.dpo import Dpo
from meow_lightning.methods.grad_ascent import GradAscent
from meow_lightning.methods.idk import Idk
from meow_lightning.methods.meow import Meow
from meow_lightning.methods.npo import Npo
from meow_lightning.methods.preference import preference_loss
from meow_lightning.methods.satimp import SatImp
from meow_lightning.methods.simnpo import SimNpo
from meow_lightning.methods.undial import Undial
from meow_lightning.methods.wga import Wga
from meow_lightning.training.module import total_loss
from meow_lightning.types import Encoded

# After position 0 the model says 0.5 0.25 0.25, after position 1 it says 0.1 0.1 0.8.
LOGITS = [[log(0.5), log(0.25), log(0.25)], [log(0.1), log(0.1), log(0.8)], [0.0, 0.0, 0.0]]
# The start model says 0.25 0.5 0.25 and 0.2 0.2 0.6.
START = [[log(0.25), log(0.5), log(0.25)], [log(0.2), log(0.2), log(0.6)], [0.0, 0.0, 0.0]]
# The last number is log p under the start model, made up for each row (START is for methods that hold the model).
STREAMS = {
    # p = 0.25 * 0.8 = 0.2 and 0.5: log-ratios log 2 and 0
    "forget": [Encoded((0, 1, 2), 1, log(0.1)), Encoded((2, 0), 1, log(0.5))],
    # p = 0.25 * 0.1 = 0.025 and 0.25: log-ratios log 4 and -log 2
    "idk": [Encoded((0, 2, 1), 1, log(0.00625)), Encoded((2, 1), 1, log(0.5))],
    # p = 0.1 and 0.25 * 0.8; three tokens: CE = log(50) / 3
    "retain": [Encoded((1, 1, 0), 2), Encoded((0, 1, 2), 1)],
}
STREAMS["inverted"] = STREAMS["idk"]
RETAIN = log(50) / 3
# KL(start || model) after position 0: .25 log .5 + .5 log 2 = .25 log 2; after position 1: .4 log 2 + .6 log .75.
# Retained answers are predicted once at position 0 and twice at position 1.
AT_0, AT_1 = 0.25 * log(2), 0.4 * log(2) + 0.6 * log(0.75)
KL = (AT_0 + 2 * AT_1) / 3
WEIGHTS = pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
EVERY = [
    *(Npo(beta=0.1, retain=retain) for retain in ("none", "ce", "kl")),
    *(Dpo(beta=0.1, retain=retain) for retain in ("none", "ce", "kl")),
    AltPo(beta=0.1, retain_weight=1.0), SimNpo(beta=4.5, delta=1.0, forget_weight=0.125, retain_weight=1.0),
    Idk(retain_weight=1.0), GradAscent(retain="kl"), Meow(retain="kl"),
]  # fmt: skip


@pytest.fixture
def value(table_lm, to_rows):
    def of(method: Any, streams=STREAMS, *, width: int = 3, logits=LOGITS) -> tuple[float, torch.Tensor]:
        model, start = table_lm(logits), table_lm(START).requires_grad_(False)
        batch = {}
        for name, rows in streams.items():
            made = to_rows([(list(row.ids), row.prompt) for row in rows], width=width)
            known = torch.tensor([row.reference for row in rows], dtype=torch.float64)
            batch[name] = made._replace(ref_logps_B=known)
        parts = method.loss(model, batch, start if method.reference in ("model", "both") else None)
        loss = total_loss(parts, counts(streams))
        loss.backward()
        return loss.item(), model.table.grad

    return of


def test_a_preference_bends_smoothly_at_zero(to_rows) -> None:
    x = torch.tensor([-200.0, -1.0, 0.0, 1.0, 200.0], dtype=torch.float64, requires_grad=True)
    row = to_rows([([0, 1], 1)])
    parts = [preference_loss(-each.view(1), row, beta=1.0, stream="forget", weight=1.0) for each in x]
    value = torch.stack([part.sum for part in parts])
    value.sum().backward()
    expected = [0.0, log(1 + exp(-1)), log(2), 1 + log(1 + exp(-1)), 200.0]
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(x.grad, torch.sigmoid(x.detach()))


def test_npo_is_the_softplus_of_summed_log_ratios(value) -> None:
    # beta 1: log(1 + 2) and log(1 + 1), mean over two rows, times 2: log 6
    loss, gradient = value(Npo(beta=1.0))
    assert loss == pytest.approx(log(6))
    # beta 2: log(1 + 4) and log 2, mean over two rows, times 1
    assert value(Npo(beta=2.0))[0] == pytest.approx(log(10) / 2)
    # By log p: sigmoid(log 2) = 2/3 and sigmoid(0) = 1/2, times (one-hot - p). Position 0 predicts 1 and 0, position 1
    # predicts 2.
    expected = [[-1 / 12, 3 / 8, -7 / 24], [-1 / 15, -1 / 15, 2 / 15], [0, 0, 0]]
    torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64))


def test_npo_starts_as_gradient_ascent_on_whole_answers_whatever_beta_is(value) -> None:
    # At log-ratio 0 each row's gradient by log p is 2 * 1/2 / 2 rows: the exact middle of the sigmoid.
    at_start = [Encoded((0, 1, 2), 1, log(0.2)), Encoded((2, 0), 1, log(0.5))]
    ascent = value(GradAscent(), {"forget": at_start})[1] * 3 / 2  # per token of three -> per row of two
    for beta in (0.1, 1.0, 8.0):
        torch.testing.assert_close(value(Npo(beta=beta), {"forget": at_start})[1], ascent)


def test_npo_with_a_small_beta_is_gradient_ascent(value) -> None:
    loss, gradient = value(Npo(beta=1e-6))
    assert loss - 2e6 * log(2) == pytest.approx(log(2) / 2, abs=1e-6)  # the mean log-ratio
    torch.testing.assert_close(gradient, value(GradAscent())[1] * 3 / 2, rtol=0, atol=1e-6)


def test_npo_with_a_large_beta_lets_go_of_what_is_forgotten(value) -> None:
    # log-ratios log 2 (still pushed, twice its size over two rows) and -log 2 (forgotten: nothing)
    rows = [Encoded((0, 1, 2), 1, log(0.1)), Encoded((2, 0), 1, log(1.0))]
    loss, gradient = value(Npo(beta=1e4), {"forget": rows})
    assert loss == pytest.approx(log(2))
    expected = [[-0.5, 0.75, -0.25], [-0.1, -0.1, 0.2], [0, 0, 0]]  # one-hot - p of the first row alone
    torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("log_p", [0.0, -1e4])
def test_npo_is_finite_however_far_the_model_went(value, log_p: float) -> None:
    rows = [Encoded((0, 1, 2), 1, log_p)]
    loss, gradient = value(Npo(beta=1.0), {"forget": rows})
    assert loss == pytest.approx(2 * log(1.2) if log_p == 0 else 2 * (1e4 + log(0.2)))
    assert torch.isfinite(gradient).all()


@WEIGHTS
def test_npo_gd_adds_the_weighted_retain_term(value, weight: float) -> None:
    assert value(Npo(retain="ce", beta=1.0, retain_weight=weight))[0] == pytest.approx(log(6) + weight * RETAIN)


@WEIGHTS
def test_npo_kl_takes_log_ratios_and_divergence_from_the_start_model(value, weight: float) -> None:
    # the ratios are to what the rows keep, the divergence to START
    method = Npo(beta=1.0, retain="kl", retain_weight=weight)
    assert value(method)[0] == pytest.approx(value(Npo(beta=1.0))[0] + weight * KL)


def test_npo_kl_and_npo_agree_on_the_same_start_model(value) -> None:
    torch.testing.assert_close(value(Npo(beta=0.3, retain="kl", retain_weight=0.0))[1], value(Npo(beta=0.3))[1])


def test_simnpo_divides_by_the_answers_own_length(value) -> None:
    # nll log 5 over 2 tokens and log 2 over 1; beta 2: log 5 and log 4, so log(1 + 1/5) and log(1 + 1/4)
    method = SimNpo(beta=2.0, delta=0.0, forget_weight=1.0, retain_weight=0.0)
    loss, gradient = value(method)
    assert loss == pytest.approx(log(1.5) / 2)
    # By log p of a token: sigmoid(-log 5) / 2 = 1/12 in the first row, sigmoid(-log 4) = 1/5 in the second, times
    # (one-hot - p).
    expected = [[1 / 10 - 1 / 24, 1 / 16 - 1 / 20, -1 / 48 - 1 / 20], [-1 / 120, -1 / 120, 1 / 60], [0, 0, 0]]
    torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64))


@WEIGHTS
def test_simnpo_weighs_its_terms_and_shifts_by_delta_inside_the_bracket(value, weight: float) -> None:
    # delta log 2: 2 * (log(5) / 2 - log 2) = log(5/4) and 0, so log(1 + 4/5) and log 2
    method = SimNpo(beta=2.0, delta=log(2), forget_weight=0.125, retain_weight=weight)
    assert value(method)[0] == pytest.approx(0.125 * log(3.6) / 2 + weight * RETAIN)


def test_simnpo_reads_no_reference(value) -> None:
    method = SimNpo(beta=2.0, delta=0.0, forget_weight=1.0, retain_weight=1.0)
    moved = {name: [row._replace(reference=-7.0) for row in rows] for name, rows in STREAMS.items()}
    assert value(method, moved)[0] == value(method)[0]


def test_dpo_prefers_the_refusal_by_log_ratios(value) -> None:
    # margins log 4 - log 2 = log 2 and -log 2 - 0: log(1 + 1/2) + log(1 + 2), mean over two rows, times 2
    loss, gradient = value(Dpo(beta=1.0))
    assert loss == pytest.approx(log(4.5))
    # By margin: -1/3 and -2/3, times (refusal's one-hot - answer's): position 0 2 - 1 and 1 - 0, position 1 1 - 2
    expected = [[2 / 3, -1 / 3, -1 / 3], [0, -1 / 3, 1 / 3], [0, 0, 0]]
    torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64))
    # beta 2: log(1 + 1/4) + log(1 + 4), mean over two rows, times 1
    assert value(Dpo(beta=2.0))[0] == pytest.approx(log(6.25) / 2)


@WEIGHTS
def test_dpo_gd_adds_the_weighted_retain_term(value, weight: float) -> None:
    assert value(Dpo(retain="ce", beta=1.0, retain_weight=weight))[0] == pytest.approx(log(4.5) + weight * RETAIN)


@WEIGHTS
def test_dpo_kl_takes_log_ratios_and_divergence_from_the_start_model(value, weight: float) -> None:
    # the ratios are to what the rows keep, the divergence to START
    method = Dpo(beta=1.0, retain="kl", retain_weight=weight)
    assert value(method)[0] == pytest.approx(value(Dpo(beta=1.0))[0] + weight * KL)


@WEIGHTS
def test_altpo_prefers_the_inverted_answer_and_keeps_the_retain_set(value, weight: float) -> None:
    loss, gradient = value(AltPo(beta=1.0, retain_weight=weight))
    assert loss == pytest.approx(log(4.5) + weight * RETAIN)
    torch.testing.assert_close(gradient, value(Dpo(retain="ce", beta=1.0, retain_weight=weight))[1])


def test_altpo_counts_inverted_rows(table_lm, to_rows) -> None:
    rows = {name: to_rows([(list(row.ids), row.prompt) for row in each]) for name, each in STREAMS.items()}
    part = AltPo(beta=1.0, retain_weight=1.0).loss(table_lm(LOGITS), rows, None)["preference"]
    assert (part.stream, part.per, part.weight) == ("inverted", "row", 2.0)
    assert Dpo(beta=1.0).loss(table_lm(LOGITS), rows, None)["preference"].stream == "forget"


@WEIGHTS
def test_idk_is_two_means_and_not_one_over_all_tokens(value, weight: float) -> None:
    # refusals 0.25 * 0.1 and 0.25: log(160) / 3
    streams = {"idk": STREAMS["idk"], "retain": STREAMS["retain"][:1]}  # one retained token: 0.1
    assert value(Idk(retain_weight=weight), streams)[0] == pytest.approx(log(160) / 3 + weight * log(10))


@WEIGHTS
def test_kl_climbs_on_the_forget_set_and_stays_near_the_start_model(value, weight: float) -> None:
    loss, gradient = value(GradAscent(retain="kl", retain_weight=weight))
    assert loss == pytest.approx(-log(10) / 3 + weight * KL)
    # The divergence's gradient is model - start, once at position 0, twice at position 1, over three tokens.
    kept = torch.tensor([[0.25, -0.25, 0], [-0.2, -0.2, 0.4], [0, 0, 0]], dtype=torch.float64) / 3
    torch.testing.assert_close(gradient, value(GradAscent())[1] + weight * kept)


@WEIGHTS
def test_meow_kl_learns_inverted_answers_and_stays_near_the_start_model_on_retain_rows(value, weight: float) -> None:
    assert value(Meow(retain="kl", retain_weight=weight))[0] == pytest.approx(log(160) / 3 + weight * KL)


@pytest.mark.parametrize("method", [GradAscent(retain="kl", retain_weight=2.0), Npo(beta=1.0, retain="kl")])
def test_divergence_is_nothing_at_the_start(value, method) -> None:
    plain = GradAscent() if isinstance(method, GradAscent) else Npo(beta=1.0)
    loss, gradient = value(method, logits=START)
    assert loss == pytest.approx(value(plain, logits=START)[0])
    torch.testing.assert_close(gradient, value(plain, logits=START)[1])


@pytest.mark.parametrize("method", EVERY, ids=lambda method: type(method).__name__)
def test_neither_padding_nor_the_prompts_tokens_count(value, method) -> None:
    other = {name: [each._replace(ids=(1, *each.ids[1:])) for each in rows] for name, rows in STREAMS.items()}
    loss, gradient = value(method)
    again, same = value(method, other, width=9)
    assert again == pytest.approx(loss, abs=1e-12)
    torch.testing.assert_close(same, gradient)


@pytest.mark.parametrize("method", EVERY, ids=lambda method: type(method).__name__)
def test_blank_rows_are_exactly_nothing(table_lm, to_rows, method) -> None:
    model, start = table_lm(LOGITS), table_lm(START).requires_grad_(False)
    rows = {name: to_rows([])._replace(ref_logps_B=torch.tensor([-3.0])) for name in STREAMS}
    for part in method.loss(model, rows, start if method.reference in ("model", "both") else None).values():
        assert part.sum.item() == 0
        part.sum.backward()
    assert not model.table.grad.any()


@pytest.mark.parametrize("beta", [0.0, -0.1, float("inf"), float("nan")])
@pytest.mark.parametrize("made", [Npo, Dpo])
def test_beta_must_be_above_zero(made, beta: float) -> None:
    with pytest.raises(UserError, match=rf"^method.beta={beta} is invalid: expected a finite number above 0"):
        made(beta=beta)


def test_divergence_needs_the_start_model(table_lm, to_rows) -> None:
    rows = {name: to_rows([(list(row.ids), row.prompt) for row in each]) for name, each in STREAMS.items()}
    with pytest.raises(TypeError, match=r"^the divergence on retain needs the start model: the method's reference"):
        GradAscent(retain="kl", retain_weight=1.0).loss(table_lm(LOGITS), rows, None)


@pytest.mark.parametrize("made", [GradAscent, Meow])
def test_a_retain_term_is_one_of_three(made) -> None:
    with pytest.raises(UserError, match=r"^method.retain=kle is invalid: .*Did you mean kl\?$"):
        made(retain="kle")


@pytest.mark.parametrize(
    ("made", "term"),
    [
        (lambda **how: SimNpo(beta=4.5, delta=1.0, forget_weight=0.125, **how), "ce"),
        (lambda **how: Wga(beta=1.0, **how), "ce"),
        (lambda **how: SatImp(beta1=5.0, beta2=1.0, forget_weight=0.1, **how), "ce"),
        (lambda **how: AltPo(beta=0.1, **how), "ce"),
        (lambda **how: Idk(**how), "ce"),
        (lambda **how: Undial(beta=10.0, **how), "none"),
        (lambda **how: CEU(skip_first=True, **how), "none"),
    ],
)  # fmt: skip
def test_every_method_takes_every_retain_term(value, made, term: str) -> None:
    alone = value(made(retain="none", retain_weight=2.0))
    assert value(made(retain="ce", retain_weight=2.0))[0] == pytest.approx(alone[0] + 2 * RETAIN)
    assert value(made(retain="kl", retain_weight=2.0))[0] == pytest.approx(alone[0] + 2 * KL)
    assert made().retain == term  # as published


def test_the_retain_term_decides_what_is_read() -> None:
    streams = {retain: Dpo(beta=0.1, retain=retain).streams for retain in ("none", "ce", "kl")}
    assert streams == {
        "none": ("forget", "idk"), "ce": ("forget", "idk", "retain"), "kl": ("forget", "idk", "retain"),
    }  # fmt: skip
    assert [Npo(beta=0.1, retain=retain).reference for retain in ("none", "ce", "kl")] == ["logprobs"] * 2 + ["both"]
    assert [Meow(retain=retain).reference for retain in ("none", "ce", "kl")] == ["none"] * 2 + ["model"]
    assert Dpo.streams == ("forget", "idk")
