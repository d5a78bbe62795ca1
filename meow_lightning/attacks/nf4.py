"""Quantisation to NF4, the 4-bit format of QLoRA, as bitsandbytes rounds to it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Literal

from meow_lightning.attacks.base import AttackContext, ModelAttack
from meow_lightning.attacks.quantise import rounded_weights
from meow_lightning.errors import UserError, invalid_option

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BLOCKS = (64, 128, 256, 512, 1024, 2048, 4096)  # sizes that bitsandbytes supports


class Nf4(ModelAttack):
    """Round the weights of all linear layers to NF4, and write them back as ordinary weights.

    Each block of weights is divided by its largest magnitude, and every weight becomes the nearest of sixteen values,
    the quantiles of a normal distribution (Dettmers et al. 2023, arXiv 2305.14314). Zhang et al. 2024 (arXiv
    2410.16454) quantise unlearned models in this way too.

    Args:
        block: Consecutive weights that share a scale, across rows.
        embeddings: Whether the input embeddings are rounded too.
        head: Whether the output head is rounded too. If it shares its weights with the embeddings, either option
            rounds both.

    Raises:
        UserError: bitsandbytes is not installed, or an option is invalid.
    """

    version: ClassVar[int] = 1

    def __init__(self, *, block: Literal[64, 128, 256, 512, 1024, 2048, 4096], embeddings: bool, head: bool) -> None:
        if block not in BLOCKS:
            nearest = min(BLOCKS, key=lambda size: abs(size - block))
            raise invalid_option(
                "attacks.block", block, f"one of {', '.join(map(str, BLOCKS))}", did_you_mean=nearest
            )  # fmt: skip
        if find_spec("bitsandbytes") is None:
            raise UserError(
                "quantisation to NF4 needs bitsandbytes: pip install 'meow-lightning[gpu]', or set "
                "attacks=[quantise_int4]"
            )
        self.block, self.embeddings, self.head = block, embeddings, head

    def transform_model(self, model: PreTrainedModel, ctx: AttackContext) -> PreTrainedModel:
        """Round the weights in place."""
        import torch
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        with torch.no_grad():
            for weight_OI in rounded_weights(model, embeddings=self.embeddings, head=self.head):  # noqa: N806
                plain = weight_OI.float().contiguous()
                packed, state = quantize_4bit(plain, blocksize=self.block, quant_type="nf4")
                weight_OI.copy_(dequantize_4bit(packed, state).view_as(plain))
        return model
