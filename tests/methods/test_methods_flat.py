from __future__ import annotations

import pytest
import torch

from meow_lightning.data.batch_plan import counts
from meow_lightning.data.collate import collate
from meow_lightning.errors import UserError
from meow_lightning.methods.flat import Flat
from meow_lightning.training.module import total_loss
from meow_lightning.types import Encoded

# What follows positions 0, 1, 2 and 3.
PROBABILITIES = [[0.6, 0.3, 0.1], [0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [0.7, 0.2, 0.1]]
REFUSAL = Encoded((2, 0), 1)  # 0.6
ANSWER = Encoded((2, 1), 1)  # 0.3
NAMES = ("kl", "tv", "js", "pearson")
VALUES = dict(zip(NAMES, (-0.103415, -0.122868, -0.094451, -0.277500), strict=True))


@pytest.fixture
def value(table_lm, to_rows):
    def of(divergence: str, idk=(REFUSAL,), forget=(ANSWER,), **how) -> tuple[float, torch.Tensor]:
        model = table_lm(torch.tensor(PROBABILITIES, dtype=torch.float64).log())
        streams = {"forget": list(forget), "idk": list(idk)}
        batch = {name: to_rows([(list(row.ids), row.prompt) for row in rows], **how) for name, rows in streams.items()}
        loss = total_loss(Flat(divergence=divergence).loss(model, batch, None), counts(streams))
        loss.backward()
        return loss.item(), model.table.grad

    return of


@pytest.mark.parametrize("name", NAMES)
def test_value_of_one_pair(value, name: str) -> None:
    assert value(name)[0] == pytest.approx(VALUES[name], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "by_refusal", "by_answer"),
    [("kl", -1, 0.496585), ("tv", -0.355789, 0.457568), ("js", -0.354344, 0.574443), ("pearson", -1, 1.15)],
)
def test_implicit_weights_of_refusal_and_answer(value, name: str, by_refusal: float, by_answer: float) -> None:
    # dP/dz of the token is P (1 - P); the answer stands behind a longer prompt, where its probability is 0.3 too
    gradient = value(name, forget=[Encoded((2, 2, 1), 2)])[1]
    assert gradient[0, 0].item() == pytest.approx(by_refusal * 0.6 * 0.4, abs=1e-6)
    assert gradient[1, 1].item() == pytest.approx(by_answer * 0.3 * 0.7, abs=1e-6)


def test_gradient_where_both_share_a_distribution(value) -> None:
    expected = torch.tensor([-0.329385, 0.284283, 0.045102], dtype=torch.float64)
    torch.testing.assert_close(value("kl")[1][0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pad_id", [0, 1])
def test_padding_does_not_thin_out_the_mean(value, name: str, pad_id: int) -> None:
    # averaged over four positions KL would be +0.246531
    assert value(name, width=4, pad_id=pad_id)[0] == pytest.approx(VALUES[name], abs=1e-6)


def test_the_mean_over_questions_comes_after_the_divergence(value) -> None:
    # P_e = 0.6 and 0.6, P_f = 0.1 and 0.5
    idk, forget = [REFUSAL, REFUSAL], [Encoded((0, 2), 1), Encoded((1, 1, 0), 2)]
    assert value("kl", idk, forget)[0] == pytest.approx(-0.093450, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_longer_answer_counts_by_its_mean_probability(value, name: str) -> None:
    # 0.2 after position 1 and 0.4 after position 2
    assert value(name, forget=[Encoded((0, 0, 2, 1), 2)])[0] == pytest.approx(VALUES[name], abs=1e-6)


@pytest.mark.parametrize(("name", "expected"), [("tv", 0.0), ("kl", 0.106531), ("js", 0.061860), ("pearson", 0.0625)])
def test_answers_that_are_equally_likely(value, name: str, expected: float) -> None:
    half = Encoded((1, 1, 0), 2)
    assert value(name, [half], [half])[0] == pytest.approx(expected, abs=1e-6 if expected else 1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_blank_rows_count_nothing(table_lm, name: str) -> None:
    model = table_lm(PROBABILITIES)
    blank = {stream: collate([], pad_id=0) for stream in Flat.streams}
    parts = Flat(divergence=name).loss(model, blank, None)
    assert [part.sum.item() for part in parts.values()] == [0, 0]
    (parts["idk"].sum + parts["forget"].sum).backward()
    assert not model.table.grad.any()


def test_an_unknown_divergence_is_refused() -> None:
    with pytest.raises(UserError, match=r"^method\.divergence=jsd is invalid: .*Did you mean js\?$"):
        Flat(divergence="jsd")
