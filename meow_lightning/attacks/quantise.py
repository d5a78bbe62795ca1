"""Quantisation by rounding to nearest: coarser weights may bring back what small changes had hidden."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from meow_lightning.attacks.base import AttackContext, ModelAttack
from meow_lightning.config.ranges import Count, Range
from meow_lightning.config.signature import checked_ranges

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@checked_ranges("attacks")
class Quantise(ModelAttack):
    """Round the weights of all linear layers to integers of few bits, and write them back as ordinary weights.

    Per group of weights that share a scale, with ``m = 2^(bits - 1) - 1``:

        s = max |w| / m        w' = s * round(w / s)

    so integers are symmetrical around 0, and no calibration data are needed (Zhang et al. 2024, "Does your LLM truly
    unlearn?", arXiv 2410.16454, quantise unlearned models in this way). Biases and norms stay as they are.

    Args:
        bits: Bits per weight, 2 to 8.
        group: Consecutive weights along the input that share a scale, 1 or more; ``None``: all weights of an output
            channel.
        embeddings: Whether the input embeddings are rounded too, by token.
        head: Whether the output head is rounded too. If it shares its weights with the embeddings, either option
            rounds both.
    """

    version: ClassVar[int] = 1

    def __init__(self, *, bits: Annotated[int, Range(2, 8)], group: Count | None, embeddings: bool, head: bool) -> None:
        self.bits, self.group, self.embeddings, self.head = bits, group, embeddings, head

    def transform_model(self, model: PreTrainedModel, ctx: AttackContext) -> PreTrainedModel:
        """Round the weights in place."""
        import torch

        with torch.no_grad():
            for weight_OI in self._weights(model):  # noqa: N806
                weight_OI.copy_(rounded_to_nearest(weight_OI, bits=self.bits, group=self.group))
        return model

    def _weights(self, model: PreTrainedModel) -> Iterator[torch.Tensor]:
        """Yield the weights to round, (outputs, inputs) each and every one once.

        A method may have attached another language model, which has embeddings and a head of its own.
        """
        import torch
        from transformers.pytorch_utils import Conv1D

        left = set()
        for each in _language_models(model):
            embeddings, head = each.get_input_embeddings(), each.get_output_embeddings()
            tied = head is not None and head.weight is embeddings.weight
            if self.embeddings or (self.head and tied):
                yield embeddings.get_parameter("weight")
            if tied or not self.head:
                left.add(head)
        for module in model.modules():
            if module in left:
                continue
            if isinstance(module, torch.nn.Linear):
                yield module.weight
            elif isinstance(module, Conv1D):  # GPT-2's layers store (inputs, outputs)
                yield module.weight.T


def _language_models(model: PreTrainedModel) -> list[PreTrainedModel]:
    """List a model and those among its modules that have an output head too."""
    from transformers import PreTrainedModel

    found = [each for each in model.modules() if isinstance(each, PreTrainedModel) and each is not model]
    return [model, *(each for each in found if each.get_output_embeddings() is not None)]


def rounded_to_nearest(weight_OI: torch.Tensor, *, bits: int, group: int | None) -> torch.Tensor:  # noqa: N803
    """Quantise and dequantise a matrix, with one symmetrical scale per group; see :class:`Quantise`.

    Halves round to the even integer. A group of zeros stays zero. The arithmetic is in float32.

    Args:
        weight_OI: The weights, (outputs, inputs).
        bits: Bits per weight, 2 or more.
        group: Consecutive weights of a row that share a scale; the last group of a row may be smaller. ``None``: all
            weights of the row.

    Returns:
        The values that the integers stand for, in the form and type of ``weight_OI``.
    """
    import torch

    outputs, inputs = weight_OI.shape
    size = inputs if group is None else min(group, inputs)
    padded = torch.nn.functional.pad(weight_OI.float(), (0, -inputs % size))  # zeros do not change a maximum
    grouped = padded.view(outputs, -1, size)
    scale = grouped.abs().amax(dim=-1, keepdim=True) / (2 ** (bits - 1) - 1)
    integers = torch.round(grouped / torch.where(scale > 0, scale, torch.ones_like(scale)))
    return (integers * scale).view(outputs, -1)[:, :inputs].to(weight_OI.dtype)
