"""Inputs of a causal model's output head at the scored tokens, so that logits can be computed block by block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch.distributed.fsdp import FSDPModule

from meow_lightning.types import TokenBatch

_SEPARABLE: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


class ScoredStates(NamedTuple):
    """What logits of the scored tokens are computed from, row by row.

    Attributes:
        states_ND: Inputs of the head, (N, D); without a separable head the logits themselves, (N, V), in the dtype of
            the model's output.
        head: The head; ``None`` if ``states_ND`` are logits.
    """

    states_ND: torch.Tensor  # noqa: N815
    head: torch.nn.Linear | None


class ScoredPlaces(NamedTuple):
    """Where the logits of the scored tokens are in a pass over rows.

    Attributes:
        targets_BT: Which tokens after the first of a row are scored, (B, T - 1).
        columns_K: Indices of the columns that predict any of them, (K,).
    """

    targets_BT: torch.Tensor  # noqa: N815
    columns_K: torch.Tensor  # noqa: N815

    @classmethod
    def of(cls, rows: TokenBatch) -> ScoredPlaces:
        """Find them; once per pass, since on a GPU this waits for the device.

        Raises:
            ValueError: The first token of a row is scored; no earlier token predicts it.
        """
        loss_mask_BT = rows.loss_mask_BT.bool()  # noqa: N806
        if bool(loss_mask_BT[:, 0].any()):
            raise ValueError("the first token of a row cannot be scored: nothing precedes it")
        targets_BT = loss_mask_BT[:, 1:]  # noqa: N806
        columns_K = targets_BT.any(0).nonzero().squeeze(-1)  # noqa: N806
        if columns_K.numel() == 0:
            columns_K = columns_K.new_zeros(1)  # noqa: N806 - a blank row still needs a gradient, of 0
        return cls(targets_BT, columns_K)

    def select(self, values_BKD: torch.Tensor) -> torch.Tensor:  # noqa: N803
        """Select the values of the scored tokens from those of the columns, (N, D), row by row."""
        return values_BKD[self.targets_BT[:, self.columns_K]]


def run_at(model: torch.nn.Module, rows: TokenBatch, columns: torch.Tensor) -> torch.Tensor:
    """Compute the logits at these columns, (B, K, V).

    Rows are right-padded, so positions count from a row's first token and its logits do not depend on its batch.
    """
    loss_mask_BT = rows.loss_mask_BT.bool()  # noqa: N806
    indices_T = torch.arange(rows.input_ids_BT.shape[1], device=rows.input_ids_BT.device)  # noqa: N806
    last_B1 = (indices_T * (rows.attention_mask_BT.bool() | loss_mask_BT)).amax(-1, keepdim=True)  # noqa: N806
    positions_BT = torch.minimum(indices_T, last_B1)  # noqa: N806 - padding repeats the last position
    logits: torch.Tensor = model(
        input_ids=rows.input_ids_BT, attention_mask=rows.attention_mask_BT, position_ids=positions_BT, use_cache=False,
        logits_to_keep=columns,
    ).logits  # fmt: skip
    return logits


def scored_states(model: torch.nn.Module, rows: TokenBatch, places: ScoredPlaces) -> ScoredStates:
    """Run a model up to its head, if that can be separated from it.

    Args:
        model: A causal language model, plain or adapted, or any callable module with logits.
        rows: Rows of one stream.
        places: Where their scored tokens are.
    """
    head = separable_head(model)
    if head is None:
        return ScoredStates(places.select(run_at(model, rows, places.columns_K)), None)
    with _stopped_before(head) as inputs:
        run_at(model, rows, places.columns_K)
    return ScoredStates(places.select(inputs[-1]), head)


def vocabulary_of(model: torch.nn.Module) -> int:
    """Return the vocabulary size in a model's config; 0 for a model without one."""
    config: Any = getattr(model, "config", None)
    return int(getattr(config.get_text_config(), "vocab_size", 0)) if hasattr(config, "get_text_config") else 0


def separable_head(model: torch.nn.Module) -> torch.nn.Linear | None:
    """Return the head if the model's logits are its plain output; ``None`` for any other model.

    Logits that are scaled, capped or cast afterwards are recognised by a trial on one token, once per model. The head
    of a sharded model has its weights within the model's own forward pass only.
    """
    find = getattr(model, "get_output_embeddings", None)
    head = None if find is None or isinstance(model, FSDPModule) else find()
    if type(head) is not torch.nn.Linear or head._forward_hooks or head._forward_pre_hooks:
        return None
    if model not in _SEPARABLE:
        _SEPARABLE[model] = _is_separable(model, head)
    return head if _SEPARABLE[model] else None


def _is_separable(model: torch.nn.Module, head: torch.nn.Linear) -> bool:
    outputs: list[Any] = []
    handle = head.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    token = torch.zeros((1, 1), dtype=torch.long, device=head.weight.device)
    devices = [head.weight.device] if head.weight.device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):  # dropout draws from the global random state
            logits = model(input_ids=token, attention_mask=token + 1, position_ids=token, use_cache=False).logits
    finally:
        handle.remove()
    return len(outputs) == 1 and outputs[0] is logits


@contextmanager
def _stopped_before(head: torch.nn.Linear) -> Iterator[list[torch.Tensor]]:
    """Collect the head's inputs while it is called with no position."""
    inputs: list[torch.Tensor] = []

    def collect(_module: torch.nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        inputs.append(given[0])
        return (given[0][:, :0],)

    handle = head.register_forward_pre_hook(collect)
    try:
        yield inputs
    finally:
        handle.remove()
