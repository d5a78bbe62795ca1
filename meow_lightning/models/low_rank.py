"""Low-rank approximation of a weight matrix, its rows weighted, as the two matrices of an adapter."""

from __future__ import annotations

from typing import NamedTuple

import torch

EXACT_SIZE = 1024  # smaller side of a matrix up to which its singular values are computed exactly
OVERSAMPLING = 8  # columns of the random sketch beyond the rank, as in Halko et al. 2011, section 4.2
ITERATIONS = 4  # power iterations of the sketch; weights of language models have slowly falling singular values


class LowRank(NamedTuple):
    """The matrices of an adapter, y = s B A x, with k rows and columns, k at most the rank asked for.

    Attributes:
        down_KI: A, from the inputs.
        up_OK: B, to the outputs.
    """

    down_KI: torch.Tensor  # noqa: N815
    up_OK: torch.Tensor  # noqa: N815


def low_rank(
    weight_OI: torch.Tensor, *, rank: int, scale: float, row_weights_O: torch.Tensor | None, seed: int,  # noqa: N803
) -> LowRank:  # fmt: skip
    """Minimize || diag(r) (W - s B A) ||_F over A and B, balanced in the singular values of diag(r) W.

        U S V' = leading singular triplets of diag(r) W;  A = sqrt(S / s) V',  B = W V / sqrt(s S)

    The product s B A = W V V' is the projection of W on the right singular vectors. LoKU (arXiv 2408.06621) writes
    B = diag(1 / r) U sqrt(S / s), the same for r > 0; its code divides by r + 1e-5, this divides by no r, so rows
    without weight do no harm. With equal weights it is PiSSA (arXiv 2404.02948, section 3).

    The smaller side of W decides how: up to ``EXACT_SIZE`` by a full decomposition, beyond by a seeded random sketch
    (Halko et al. 2011, algorithm 4.4). The published code sketches all matrices with as many columns as the rank, from
    the global random state, which finds other directions in every run.

    Args:
        weight_OI: W, float32 or float64, (outputs, inputs).
        rank: Largest rank, from 1.
        scale: s, above 0.
        row_weights_O: r, 0 or more, (outputs,); ``None`` for equal weights.
        seed: Seed of the sketch. The global random state is left unchanged.

    Returns:
        A and B of the numerical rank of diag(r) W if that is below ``rank``; singular vectors are signed so that the
        largest entry of each is positive.
    """
    weighted_OI = weight_OI if row_weights_O is None else row_weights_O[:, None] * weight_OI  # noqa: N806
    values_K, vectors_KI = _right_singular(weighted_OI, rank, seed)  # noqa: N806
    floor = torch.finfo(values_K.dtype).eps * max(weight_OI.shape) * values_K[0]
    kept = int((values_K > floor).sum())
    values_K, vectors_KI = values_K[:kept], vectors_KI[:kept]  # noqa: N806
    largest_K1 = vectors_KI.gather(1, vectors_KI.abs().argmax(1, keepdim=True))  # noqa: N806
    vectors_KI = vectors_KI * largest_K1.sign()  # noqa: N806
    down_KI = (values_K / scale).sqrt()[:, None] * vectors_KI  # noqa: N806
    return LowRank(down_KI, weight_OI @ vectors_KI.T / (scale * values_K).sqrt())


def _right_singular(matrix_OI: torch.Tensor, rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: N803
    """Compute the leading singular values, (K,), and right singular vectors, (K, I); fewer for a smaller matrix."""
    size, columns = min(matrix_OI.shape), rank + OVERSAMPLING
    if size <= max(EXACT_SIZE, columns):
        _, values_K, vectors_KI = torch.linalg.svd(matrix_OI, full_matrices=False)  # noqa: N806
        return values_K[:rank], vectors_KI[:rank]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(matrix_OI.shape[1], columns, generator=generator, dtype=matrix_OI.dtype)
    basis_IK = drawn.to(matrix_OI.device)  # noqa: N806
    for _ in range(ITERATIONS):
        range_OK = torch.linalg.qr(matrix_OI @ basis_IK).Q  # noqa: N806
        basis_IK = torch.linalg.qr(matrix_OI.T @ range_OK).Q  # noqa: N806
    _, values_K, rotation_KK = torch.linalg.svd(matrix_OI @ basis_IK, full_matrices=False)  # noqa: N806
    return values_K[:rank], (rotation_KK @ basis_IK.T)[:rank]
