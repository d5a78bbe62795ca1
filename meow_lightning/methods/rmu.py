"""RMU: send the forget set's hidden states along a random direction, keep the retain set's (arXiv 2403.03218)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from meow_lightning.errors import UserError
from meow_lightning.methods.base import BaseMethod
from meow_lightning.models.layers import decoder_layers, hidden_states
from meow_lightning.types import Batch, LossPart, LossParts, Reference, TokenBatch

if TYPE_CHECKING:
    import torch


class Rmu(BaseMethod):
    """L = mean over forget tokens of |h_l - c u|^2 / d + w * mean over retain tokens of |h_l - h_l_ref|^2 / d.

    h_l is what decoder layer l puts out, before any final norm, at the answers' tokens, in fp32 at least; d its width;
    h_l_ref the start model's. u is drawn once, every entry uniformly from [0, 1), and scaled to length 1, as published
    (so it is no uniform direction: all entries are positive). "The WMDP Benchmark", Li et al. 2024, section 4.

    No layer above l runs, and weights that h_l does not hang on are frozen by :meth:`prepare`: without it several
    processes would wait for gradients that never come. Published code runs all layers, draws u from the global random
    state, and takes the mean row by row; here every answer token counts alike. It was made to train three matrices; its
    TOFU runs train all weights up to the layer, and so does this.

    Args:
        layer: l, from 0; a model of fewer layers takes its last.
        steering: c, above 0: the length that forget states are sent to.
        retain_weight: w, 0 or more.

    Raises:
        UserError: A layer below 0.
    """

    streams: ClassVar[tuple[str, ...]] = ("forget", "retain")
    reference: ClassVar[Reference] = "model"

    def __init__(self, *, layer: int, steering: float, retain_weight: float) -> None:
        if layer < 0:
            raise UserError(
                f"method.layer={layer} is no layer; allowed: whole numbers from 0, counted from the embeddings. "
                "Nearest: method.layer=0; published is 7"
            )
        self.layer, self.steering, self.retain_weight = layer, steering, retain_weight
        self._direction: torch.Tensor | None = None

    def prepare(self, model: torch.nn.Module, seed: int) -> None:
        """Nothing; u is drawn from the seed, and weights that the layer does not hang on are frozen."""
        import torch

        where, training = next(model.parameters()).device, model.training
        one = torch.zeros((1, 1), dtype=torch.long, device=where)
        model.eval()  # dropout would draw from the global random state
        hidden = hidden_states(
            model, TokenBatch(one, one + 1, one, one), layers=decoder_layers(model), layer=self.layer
        )
        model.train(training)
        below = {id(weight) for weight in _leaves(hidden)}
        for weight in model.parameters():
            weight.requires_grad_(weight.requires_grad and id(weight) in below)
        drawn = torch.rand(hidden.shape[-1], generator=torch.Generator().manual_seed(seed))
        self._direction = drawn / drawn.norm()

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Two parts: ``forget`` and ``retain``.

        Raises:
            TypeError: Without the start model.
            ValueError: Before :meth:`prepare`.
        """
        import torch

        if reference is None:
            raise TypeError("RMU needs the start model: the method's reference must be 'model'")
        if self._direction is None:
            raise ValueError("RMU has no direction yet: prepare() comes before the first loss")
        forget, retain = batch["forget"], batch["retain"]
        layers = decoder_layers(model)
        # The start model beside adapters is the trained one without them, and has no layers of its own.
        known = decoder_layers(reference) or layers
        steered = hidden_states(model, forget, layers=layers, layer=self.layer)
        kept = hidden_states(model, retain, layers=layers, layer=self.layer)
        with torch.no_grad():
            start = hidden_states(reference, retain, layers=known, layer=self.layer)
        away = steered - self.steering * self._direction.to(steered)
        return {
            "forget": LossPart(sum=(away**2).mean(-1).sum(), stream="forget", per="token"),
            "retain": LossPart(
                sum=((kept - start) ** 2).mean(-1).sum(), stream="retain", per="token", weight=self.retain_weight
            ),
        }


def _leaves(result: torch.Tensor) -> Iterator[torch.Tensor]:
    """The weights that a tensor was computed from, found in its graph: no gradient is computed."""
    open_, seen = [result.grad_fn], set()
    while open_:
        node = open_.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        open_ += [each for each, _ in node.next_functions]
