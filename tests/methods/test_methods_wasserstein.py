from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch

from meow_lightning.data.batch_plan import counts
from meow_lightning.data.streams.neighbours import Neighbours
from meow_lightning.methods.base import PrepareContext
from meow_lightning.methods.opt_out import OptOut
from meow_lightning.methods.snap import Snap
from meow_lightning.methods.wasserstein import WassersteinMethod, as_points, sliced_wasserstein
from meow_lightning.training.module import total_loss
from meow_lightning.types import Encoded

LOGITS = [[log(0.5), log(0.25), log(0.25)], [log(0.1), log(0.1), log(0.8)], [0.0, 0.0, 0.0]]


def unit(*shape: int) -> torch.Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn / drawn.norm(dim=0)


def snap(**changes: Any) -> Snap:
    return Snap(**{"retain_weight": 1.0, "neighbours": 2, "wasserstein_weight": 0.1, "projections": 100, **changes})


def opt_out(**changes: Any) -> OptOut:
    options = {"beta": 0.1, "retain_weight": 1.0, "neighbours": 2, "wasserstein_weight": 0.1, "projections": 100}
    return OptOut(**{**options, **changes})


def model(**weights: Any) -> torch.nn.Module:
    made = torch.nn.Module()
    for name, weight in weights.items():
        made.register_parameter(name, torch.nn.Parameter(torch.tensor(weight, dtype=torch.float64)))
    return made


def start_of(made: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in made.named_parameters()}


def prepared(method: WassersteinMethod, seed: int) -> WassersteinMethod:
    method.prepare(PrepareContext(model=model(), batches=lambda _: iter(()), seed=seed, device=torch.device("cpu")))
    return method


@pytest.mark.parametrize(
    ("start", "points", "distance"),
    [
        ([[0.0], [1.0]], [[1.0], [0.0]], 0.0),  # a permutation of the rows
        ([[0.0], [1.0]], [[0.5], [1.0]], 0.25),
        ([[0.0, 0.0], [4.0, 4.0]], [[0.0, 0.0], [4.0, 4.0]], 0.0),
    ],
)
def test_worked_values(start: Any, points: Any, distance: float) -> None:
    start, points = torch.tensor(start, dtype=torch.float64), torch.tensor(points, dtype=torch.float64)
    assert sliced_wasserstein(points, start, unit(start.shape[1], 7)).item() == distance


def test_a_row_that_moves_by_d_costs_its_square_by_the_width() -> None:
    start = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    moved = start + torch.tensor([[0.3, 0.4]], dtype=torch.float64)
    assert sliced_wasserstein(moved, start, unit(2, 10_000)).item() == pytest.approx(0.125, abs=0.002)


def test_rows_are_points_and_a_vector_is_one() -> None:
    assert as_points(torch.zeros(3)).shape == (1, 3)
    assert as_points(torch.zeros(4, 3)).shape == (4, 3)
    assert as_points(torch.zeros(4, 3, 2)).shape == (4, 6)
    assert as_points(torch.zeros(3, dtype=torch.bfloat16)).dtype == torch.float32
    assert as_points(torch.zeros(3, dtype=torch.float64)).dtype == torch.float64


def test_the_term_sums_over_the_trained_tensors_by_name() -> None:
    made = model(a=[[0.5], [1.0]], b=[2.0], c=[[9.0]])
    start = {"b": torch.tensor([1.0], dtype=torch.float64), "a": torch.tensor([[0.0], [1.0]], dtype=torch.float64)}
    # 0.25 of a and (2 - 1)^2 of b, whatever the order of `start`; c is frozen
    assert snap(wasserstein_weight=3.0).regularizer(made, start).item() == pytest.approx(3.75)
    assert snap(wasserstein_weight=0.0).regularizer(made, start) is None


def test_at_the_start_value_and_gradient_are_zero() -> None:
    made = model(a=[[0.5, 1.0], [1.0, 0.0]], b=[2.0])
    value = snap().regularizer(made, start_of(made))
    value.backward()
    assert value.item() == 0
    assert all(not weight.grad.any() for weight in made.parameters())


@pytest.mark.parametrize("method", [snap, opt_out])
def test_the_directions_depend_on_seed_and_step_alone(method: Any) -> None:
    made, other = model(a=[[0.5, 1.0], [1.0, 0.0]]), {"a": torch.zeros(2, 2, dtype=torch.float64)}

    def value(each: WassersteinMethod) -> float:
        return each.regularizer(made, other).item()

    few = {"projections": 3}
    one, same, another = (prepared(method(**few), seed) for seed in (1, 1, 2))
    first = value(one)
    torch.manual_seed(5)  # the global state is neither read nor changed
    state = torch.get_rng_state()
    assert value(one) == value(same) == first != value(another)
    assert torch.equal(torch.get_rng_state(), state)
    one.on_step_end({})
    assert value(one) != first
    resumed = prepared(method(**few), 1)
    resumed.load_state_dict(one.state_dict())
    assert value(resumed) == value(one)


def test_a_large_weight_holds_the_weights_at_the_start() -> None:
    drifts = []
    for weight in (0.0, 1e3):
        made = model(a=[[0.5, 1.0], [1.0, 0.0]])
        start, method = start_of(made), prepared(snap(wasserstein_weight=weight), 0)
        for _ in range(20):
            pull = (made.a * torch.tensor([[1.0, -1.0], [0.5, 2.0]])).sum()  # away from the start, without end
            term = method.regularizer(made, start)
            (pull if term is None else pull + term).backward()
            with torch.no_grad():
                made.a -= 1e-4 * made.a.grad
            made.a.grad = None
            method.on_step_end({})
        drifts.append((made.a - start["a"]).norm().item())
    assert drifts[1] < drifts[0] / 2


def test_snap_descends_on_refusals_and_retain_rows(table_lm, to_rows) -> None:
    streams = {"idk": [Encoded((0, 2), 1)], "retain": [Encoded((1, 1, 0), 2)]}
    made = table_lm(LOGITS)
    batch = {name: to_rows([(list(row.ids), row.prompt) for row in rows]) for name, rows in streams.items()}
    parts = snap(retain_weight=0.5).loss(made, batch, None)
    loss = total_loss(parts, counts(streams))
    loss.backward()
    assert parts["idk"].sum.item() == pytest.approx(1.386294, abs=1e-6)  # p = 0.25
    assert loss.item() == pytest.approx(log(4) + 0.5 * log(10))
    assert made.table.grad[0, 2].item() == pytest.approx(-0.75)


def test_opt_out_is_npo_with_a_retain_term(table_lm, to_rows) -> None:
    streams = {"forget": [Encoded((0, 1), 1, log(0.5))], "retain": [Encoded((1, 1, 0), 2)]}
    made = table_lm(LOGITS)
    batch = {name: to_rows([(list(row.ids), row.prompt) for row in rows]) for name, rows in streams.items()}
    batch["forget"] = batch["forget"]._replace(ref_logps_B=torch.tensor([log(0.5)], dtype=torch.float64))
    loss = total_loss(opt_out(beta=2.0).loss(made, batch, None), counts(streams))
    # p went from 0.5 to 0.25: log-ratio -log 2; sigmoid(2 log 2) = 4/5
    assert loss.item() == pytest.approx(log(5 / 4) + log(10))
    assert opt_out().reference == "logprobs"


@pytest.mark.parametrize("method", [snap, opt_out])
def test_retain_rows_are_neighbours_or_the_whole_set(method: Any) -> None:
    assert "retain" in method().streams
    builder = method(neighbours=3).builders["retain"]
    assert isinstance(builder, Neighbours)
    assert builder.per_question == 3
    assert not method(neighbours=0).builders
