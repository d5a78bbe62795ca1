"""RMU: steer the forget set's hidden states to a random direction, preserve the retain set's (arXiv 2403.03218)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from meow_lightning.config.ranges import NonNegative, Positive, Range
from meow_lightning.errors import invalid_option
from meow_lightning.methods.base import BaseMethod, PrepareContext
from meow_lightning.models.layers import decoder_layers, hidden_states
from meow_lightning.types import Batch, LossPart, LossParts, Reference, TokenBatch

if TYPE_CHECKING:
    import torch


class Rmu(BaseMethod):
    """L = mean over forget tokens of |h_l - c u|^2 / d + w * mean over retain tokens of |h_l - h_l_ref|^2 / d.

    h_l is the output of decoder layer l at the answer tokens, before any final norm, at least in fp32; d its width;
    h_l_ref that of the start model. u is drawn once, every entry uniformly from [0, 1), and normalised, as published
    (the direction is therefore not uniform: all entries are positive). "The WMDP Benchmark", Li et al. 2024, section 4.

    Layers above l are not run, and only weights that h_l depends on are trained: DDP would wait for gradients of the
    others that never arrive. Published code runs all layers and draws u from the global random state. open-unlearning
    divides the rows' sums, shape (rows,), by their numbers of tokens, shape (rows, 1): broadcast, that is the mean of
    the sums times the mean of 1 / n, not the mean of the rows' means. Here all answer tokens weigh the same. RMU was
    designed to train three matrices (of WMDP's Zephyr-7B the down projections of layers 5 to 7); open-unlearning's TOFU
    runs train all weights up to the layer, and so does this without ``weights``.

    Args:
        layer: l, from 0; models with fewer layers use their last.
        steering: c, above 0: the norm that forget states are steered to.
        retain_weight: w, 0 or more.
        weights: Regular expression; of the weights that h_l depends on, only those are trained in whose name it is
            found. ``None``: all.

    Raises:
        UserError: ``layer`` is negative, or ``weights`` is no regular expression.
    """

    streams: tuple[str, ...] = ("forget", "retain")
    reference: Reference = "model"

    def __init__(
        self, *, layer: Annotated[int, Range(0, 10**4)], steering: Positive, retain_weight: NonNegative,
        weights: str | None,
    ) -> None:  # fmt: skip
        if layer < 0:
            raise invalid_option("method.layer", layer, "an integer of at least 0 (published: 7)", did_you_mean=0)
        self.layer, self.steering, self.retain_weight = layer, steering, retain_weight
        self.weights = None if weights is None else _compiled(weights)
        self._direction: torch.Tensor | None = None

    def prepare(self, ctx: PrepareContext) -> None:
        """Draw u from the seed."""
        import torch

        width = self._probe(ctx.model).shape[-1]
        direction = torch.rand(width, generator=torch.Generator().manual_seed(ctx.seed))
        self._direction = direction / direction.norm()

    def parameters(self, model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
        """Select the weights that the layer depends on, or those of them that :attr:`weights` names.

        Raises:
            UserError: None is left.
        """
        needed = {id(weight) for weight in _leaves(self._probe(model))}
        steering = [(name, weight) for name, weight in model.named_parameters() if id(weight) in needed]
        if self.weights is None:
            return steering
        chosen = [(name, weight) for name, weight in steering if self.weights.search(name)]
        if not chosen:
            raise invalid_option(
                "method.weights", self.weights.pattern,
                f"a part of the name of a weight up to layer {self.layer}, such as {steering[-1][0]}",
            )  # fmt: skip
        return chosen

    def _probe(self, model: torch.nn.Module) -> torch.Tensor:
        """Compute the layer's output for one token, (1, d)."""
        import torch

        device, training = next(model.parameters()).device, model.training
        token = torch.zeros((1, 1), dtype=torch.long, device=device)
        model.eval()  # dropout would draw from the global random state
        hidden = hidden_states(
            model, TokenBatch(token, token + 1, token, token), layers=decoder_layers(model), layer=self.layer
        )
        model.train(training)
        return hidden

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return two parts: ``forget`` and ``retain``.

        Raises:
            TypeError: ``reference`` is ``None``.
            ValueError: :meth:`prepare` has not been called.
        """
        import torch

        if reference is None:
            raise TypeError("RMU needs the start model: the method's reference must be 'model'")
        if self._direction is None:
            raise ValueError("RMU has no direction yet: call prepare() before the first loss")
        forget, retain = batch["forget"], batch["retain"]
        layers = decoder_layers(model)
        # With adapters, the reference is the trained model with adapters disabled and has no layers of its own.
        reference_layers = decoder_layers(reference) or layers
        steered = hidden_states(model, forget, layers=layers, layer=self.layer)
        preserved = hidden_states(model, retain, layers=layers, layer=self.layer)
        with torch.no_grad():
            start = hidden_states(reference, retain, layers=reference_layers, layer=self.layer)
        offset = steered - self.steering * self._direction.to(steered)
        return {
            "forget": LossPart(sum=(offset**2).mean(-1).sum(), stream="forget", per="token"),
            "retain": LossPart(
                sum=((preserved - start) ** 2).mean(-1).sum(), stream="retain", per="token", weight=self.retain_weight
            ),
        }


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        expected = f"a regular expression ({error}), or null for all weights"
        raise invalid_option("method.weights", pattern, expected) from error


def _leaves(result: torch.Tensor) -> Iterator[torch.Tensor]:
    """Collect the weights that a tensor depends on by walking its autograd graph."""
    pending, seen = [result.grad_fn], set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        pending += [parent for parent, _ in node.next_functions]
