"""Log-probabilities of answer tokens under a causal model, and other values that depend on a token's logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from meow_lightning.resources.logit_blocks import rows_per_block
from meow_lightning.types import TokenBatch

if TYPE_CHECKING:
    import torch

    from meow_lightning.models.heads import ScoredPlaces


def scored_logits(model: torch.nn.Module, rows: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute (logits_NV, ids_N) of the scored tokens, row by row: the prediction for each, and its id.

    All logits exist at once; :func:`token_values` computes what depends on them block by block. Logits are at least
    fp32: in bf16, losses collapse to a few values (measured for TOFU's truth ratio: 1.5 % mean error). The head runs
    only at positions where some row is scored: most tokens belong to prompts.

    Raises:
        ValueError: The first token of a row is scored; no earlier token predicts it.
    """
    from meow_lightning.models.heads import ScoredPlaces

    return _logits_at(model, rows, ScoredPlaces.of(rows)), _scored_ids(rows)


def scored_blocks(
    model: torch.nn.Module, rows: TokenBatch, *, size: Callable[[torch.Tensor, int], int]
) -> Iterator[torch.Tensor]:
    """Yield the logits of the scored tokens in blocks, without gradient; for large vocabularies one exists at a time.

    Args:
        model: A causal language model.
        rows: Rows of one stream.
        size: Maps a tensor on the model's device and the vocabulary size to the tokens per block, from 1.

    Raises:
        ValueError: As :func:`scored_logits`.
    """
    from meow_lightning.models.heads import ScoredPlaces, scored_states

    places = ScoredPlaces.of(rows)
    if _rows_per_block(model, places) is None:
        logits_NV = _logits_at(model, rows, places)  # noqa: N806
        yield from logits_NV.split(size(logits_NV, logits_NV.shape[1]))
        return
    states_ND, head = scored_states(model, rows, places)  # noqa: N806
    for block in states_ND.split(size(states_ND, states_ND.shape[1] if head is None else head.out_features)):
        yield block if head is None else head(block)


def token_values(
    function: Callable[..., torch.Tensor], model: torch.nn.Module, rows: TokenBatch, *,
    frozen: Sequence[torch.nn.Module] = (),
) -> torch.Tensor:  # fmt: skip
    """Compute ``function(logits_NV, ids_N, *frozen_NV)`` of the scored tokens, shape (N,), with its gradient.

    For large vocabularies the head and the function run on blocks of tokens, in the backward pass once more, so that
    logits, their softmax and their gradient exist in fp32 for one block at a time. A block contains the scored tokens
    alone. Results differ from those of one block by rounding. Passes with few logits are computed in one piece; see
    :func:`meow_lightning.resources.logit_blocks.rows_per_block`.

    Args:
        function: Maps logits, at least fp32, ids and the logits of the frozen models to one value per token, each from
            its own logits alone.
        model: The model that the gradient is for.
        rows: Rows of one stream.
        frozen: Models without gradient on the same rows.

    Raises:
        ValueError: As :func:`scored_logits`.
    """
    import torch

    from meow_lightning.models.blocks import blockwise
    from meow_lightning.models.heads import ScoredPlaces, scored_states

    places, ids_N = ScoredPlaces.of(rows), _scored_ids(rows)  # noqa: N806
    size = _rows_per_block(model, places)
    if size is None:
        logits_NV = _logits_at(model, rows, places)  # noqa: N806
        with torch.no_grad():
            others = [_logits_at(each, rows, places) for each in frozen]
        return function(logits_NV, ids_N, *others)
    states = scored_states(model, rows, places)
    with torch.no_grad():
        fixed = [scored_states(each, rows, places) for each in frozen]
    return blockwise(function, states, ids_N, frozen=fixed, size=size)


def _logits_at(model: torch.nn.Module, rows: TokenBatch, places: ScoredPlaces) -> torch.Tensor:
    """Compute the logits of the scored tokens, (N, V), in at least fp32."""
    import torch

    from meow_lightning.models.heads import run_at

    logits_NV = places.select(run_at(model, rows, places.columns_K))  # noqa: N806
    return logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))


def _scored_ids(rows: TokenBatch) -> torch.Tensor:
    """Return the ids of the scored tokens, (N,), row by row."""
    return rows.input_ids_BT[rows.loss_mask_BT.bool()]


def _rows_per_block(model: torch.nn.Module, places: ScoredPlaces) -> int | None:
    from meow_lightning.models.heads import vocabulary_of

    return rows_per_block(len(places.targets_BT) * len(places.columns_K), vocabulary_of(model))


def negative_log_likelihood(logits_NV: torch.Tensor, ids_N: torch.Tensor) -> torch.Tensor:  # noqa: N803
    """Compute logsumexp_v z[n, v] - z[n, ids[n]], shape (N,), in nats."""
    return logits_NV.logsumexp(-1) - logits_NV.gather(-1, ids_N[:, None]).squeeze(-1)


def answer_nll(model: torch.nn.Module, rows: TokenBatch) -> torch.Tensor:
    """Compute the negative log-likelihood of every scored token, nll_BT, in nats; 0 elsewhere.

    nll[b, t] = logsumexp_v z[b, t, v] - z[b, t, ids[b, t]]
    """
    nll_N = token_values(negative_log_likelihood, model, rows)  # noqa: N806
    return nll_N.new_zeros(rows.input_ids_BT.shape).masked_scatter(rows.loss_mask_BT.bool(), nll_N)


def answer_logps(model: torch.nn.Module, rows: TokenBatch) -> torch.Tensor:
    """Compute log p(answer | prompt) of every row, shape (B,), in nats, including the end token; 0 for a blank row."""
    return -answer_nll(model, rows).sum(-1)
