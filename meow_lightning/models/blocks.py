"""A function of the logits of each token, computed block by block, with its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from meow_lightning.models.heads import ScoredStates


def blockwise(
    function: Callable[..., torch.Tensor], states: ScoredStates, ids_N: torch.Tensor, *,  # noqa: N803
    frozen: Sequence[ScoredStates], size: int,
) -> torch.Tensor:  # fmt: skip
    """Compute ``function(logits_NV, ids_N, *frozen_NV)``, shape (N,), for ``size`` tokens at a time.

    The gradient with respect to the logits is recomputed from the states block by block, so nothing of the
    vocabulary's size is kept for it. Gradients of the head's weight are summed over blocks in its own dtype.

    Args:
        function: As for :func:`~.logprobs.token_values`.
        states: Of the model that the gradient is for.
        ids_N: The scored tokens.
        frozen: Of models without gradient.
        size: Tokens per block, from 1.
    """
    head = states.head
    weight, bias = (None, None) if head is None else (head.weight, head.bias)
    others = [_Head.of(each, size=size) for each in frozen]
    values: torch.Tensor = _Blockwise.apply(  # type: ignore[no-untyped-call]
        states.states_ND, weight, bias, _Job(function, ids_N, others, size)
    )
    return values


@dataclass(frozen=True, slots=True)
class _Head:
    """Logits of states, block by block; under autocast in its dtype, with the weight cast once."""

    states_ND: torch.Tensor  # noqa: N815
    weight: torch.Tensor | None
    bias: torch.Tensor | None
    size: int

    @classmethod
    def of(cls, states: ScoredStates, *, size: int) -> _Head:
        head = states.head
        tensors = (None, None) if head is None else (head.weight.detach(), _detached(head.bias))
        return cls.cast(states.states_ND, *tensors, size=size)

    @classmethod
    def cast(
        cls, states_ND: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, *, size: int  # noqa: N803
    ) -> _Head:  # fmt: skip
        if weight is None:
            return cls(states_ND, None, None, size)
        device = states_ND.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        return cls(states_ND.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype), size)

    def logits(self) -> Iterator[torch.Tensor]:
        for states in self.states_ND.split(self.size):
            block = states if self.weight is None else functional.linear(states, self.weight, self.bias)
            yield block.to(torch.promote_types(block.dtype, torch.float32))


@dataclass(frozen=True, slots=True)
class _Job:
    function: Callable[..., torch.Tensor]
    ids_N: torch.Tensor  # noqa: N815
    frozen: Sequence[_Head]
    size: int

    def arguments(self, head: _Head) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yield the function's arguments, block by block."""
        return zip(head.logits(), self.ids_N.split(self.size), *(each.logits() for each in self.frozen), strict=True)


class _Blockwise(torch.autograd.Function):
    """See :func:`blockwise`."""

    @staticmethod
    def forward(
        ctx: Any, states_ND: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, job: _Job  # noqa: N803
    ) -> torch.Tensor:  # fmt: skip
        head = _Head.cast(states_ND, weight, bias, size=job.size)
        ctx.job, ctx.dtypes = job, [None if each is None else each.dtype for each in (states_ND, weight, bias)]
        ctx.save_for_backward(head.states_ND, head.weight, head.bias)
        return torch.cat([job.function(*arguments) for arguments in job.arguments(head)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: N803
        job: _Job = ctx.job
        states_ND, weight, bias = ctx.saved_tensors  # noqa: N806
        head = _Head(states_ND, weight, bias, job.size)
        _, weight_dtype, bias_dtype = ctx.dtypes
        needs_states, needs_weight, needs_bias, _ = ctx.needs_input_grad
        grad_states = torch.empty_like(states_ND) if needs_states else None
        grad_weight = torch.zeros_like(weight, dtype=weight_dtype) if needs_weight else None
        grad_bias = torch.zeros_like(bias, dtype=bias_dtype) if needs_bias else None
        start = 0
        for logits, *rest in job.arguments(head):
            span = slice(start, start + len(logits))
            start = span.stop
            gradient = _gradient(job.function, logits, rest, grad_N[span]).to(states_ND.dtype)
            if grad_states is not None:
                grad_states[span] = gradient if weight is None else gradient @ weight
            if grad_weight is not None:
                _add_product(grad_weight, gradient.T, states_ND[span])
            if grad_bias is not None:
                grad_bias += gradient.sum(0)
        return None if grad_states is None else grad_states.to(ctx.dtypes[0]), grad_weight, grad_bias, None


def _gradient(
    function: Callable[..., torch.Tensor], logits: torch.Tensor, rest: Sequence[torch.Tensor], outer: torch.Tensor
) -> torch.Tensor:
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        values = function(leaf, *rest)
    return torch.autograd.grad(values, leaf, outer)[0]


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """Add ``left @ right`` in place."""
    if total.dtype == right.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _detached(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.detach()
