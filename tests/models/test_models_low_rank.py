from __future__ import annotations

import pytest
import torch

from meow_lightning.models import low_rank as module
from meow_lightning.models.low_rank import low_rank

WORKED = torch.diag(torch.tensor([3.0, 1.0]))


def product(made: module.LowRank, scale: float) -> torch.Tensor:
    return scale * made.up_OK @ made.down_KI


def weight(outputs: int = 9, inputs: int = 7) -> torch.Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_worked_values_of_fila() -> None:
    # row sums of the importance 1 and 16, so r = (1, 4): the second direction weighs 4, the first 3
    made = low_rank(WORKED, rank=1, scale=2.0, row_weights_O=torch.tensor([1.0, 4.0]), seed=0)
    torch.testing.assert_close(made.down_KI, torch.tensor([[0.0, 1.414214]]))
    torch.testing.assert_close(made.up_OK, torch.tensor([[0.0], [0.353553]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(product(made, 2.0), torch.diag(torch.tensor([0.0, 1.0])))
    torch.testing.assert_close(WORKED - product(made, 2.0), torch.diag(torch.tensor([3.0, 0.0])))


def test_without_weights_the_largest_direction_is_taken() -> None:
    made = low_rank(WORKED, rank=1, scale=2.0, row_weights_O=None, seed=0)
    torch.testing.assert_close(product(made, 2.0), torch.diag(torch.tensor([3.0, 0.0])))


def test_the_published_formula_gives_the_same_where_no_row_weight_is_zero() -> None:
    row_weights = torch.linspace(0.1, 5, 9, dtype=torch.float64)
    made = low_rank(weight(), rank=3, scale=0.5, row_weights_O=row_weights, seed=0)
    u, s, v = torch.linalg.svd(row_weights[:, None] * weight(), full_matrices=False)
    root = (s[:3] / 0.5).sqrt()
    published = (u[:, :3] * root / row_weights[:, None]) @ (root[:, None] * v[:3])
    torch.testing.assert_close(product(made, 0.5), 0.5 * published)
    torch.testing.assert_close(made.down_KI.norm(dim=1), root)


def test_no_other_matrices_of_the_rank_come_closer() -> None:
    row_weights = torch.linspace(0.1, 5, 9, dtype=torch.float64)
    made = low_rank(weight(), rank=3, scale=2.0, row_weights_O=row_weights, seed=0)
    best = torch.linalg.svdvals(row_weights[:, None] * weight())[3:].norm()
    found = (row_weights[:, None] * (weight() - product(made, 2.0))).norm()
    torch.testing.assert_close(found, best)


def test_a_row_without_weight_is_no_division_by_zero() -> None:
    row_weights = torch.tensor([0.0] + [1.0] * 8, dtype=torch.float64)
    made = low_rank(weight(), rank=7, scale=1.0, row_weights_O=row_weights, seed=0)
    torch.testing.assert_close(product(made, 1.0), weight())


@pytest.mark.parametrize(("rank", "kept"), [(1, 1), (2, 2), (5, 2)])
def test_a_matrix_of_smaller_rank_gives_fewer_directions(rank: int, kept: int) -> None:
    flat = weight()[:, :2] @ weight()[:2]
    assert len(low_rank(flat, rank=rank, scale=1.0, row_weights_O=None, seed=0).down_KI) == kept


def test_a_layer_of_no_importance_gives_none() -> None:
    made = low_rank(weight(), rank=2, scale=1.0, row_weights_O=torch.zeros(9, dtype=torch.float64), seed=0)
    assert (made.down_KI.shape, made.up_OK.shape) == ((0, 7), (9, 0))


def test_the_sketch_finds_the_exact_directions_and_draws_from_its_seed_alone(monkeypatch) -> None:
    falling = torch.linalg.svd(weight(60, 50), full_matrices=False)
    matrix = falling.U @ torch.diag(0.8 ** torch.arange(50, dtype=torch.float64)) @ falling.Vh
    exact = low_rank(matrix, rank=4, scale=2.0, row_weights_O=None, seed=0)
    monkeypatch.setattr(module, "EXACT_SIZE", 10)
    state = torch.get_rng_state()
    made, again, other = (low_rank(matrix, rank=4, scale=2.0, row_weights_O=None, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(made.down_KI, exact.down_KI, atol=1e-4, rtol=0)
    torch.testing.assert_close(made.up_OK, exact.up_OK, atol=1e-4, rtol=0)
    assert torch.equal(made.down_KI, again.down_KI)
    assert not torch.equal(made.down_KI, other.down_KI)
