"""Llama in float64 throughout: transformers computes norms and rotary embeddings in float32 for any weights."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding


class Float64RotaryEmbedding(torch.nn.Module):
    """Cosines and sines of the default rotary embedding, in float64.

    With frequencies ``f_i = theta ** (-2 i / d)``: ``cos(position * f_i)`` and ``sin(position * f_i)``, each twice, in
    the layout of transformers.

    Args:
        theta: Base of the frequencies.
        width: Head dimension d.
    """

    inv_freq: torch.Tensor

    def __init__(self, *, theta: float, width: int) -> None:
        super().__init__()
        exponents = torch.arange(0, width, 2, dtype=torch.float64)
        self.register_buffer("inv_freq", theta ** (-exponents / width), persistent=False)

    @torch.no_grad()
    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute (cos_BTD, sin_BTD) of positions (B, T), in the dtype of ``x``."""
        angles = position_ids[..., None].double() * self.inv_freq.double()
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


def float64_forward(model: PreTrainedModel) -> None:
    """Make a Llama with float64 weights compute everything in float64; other architectures are left unchanged.

    Otherwise float32 rounding (1e-7) enters in every layer, and training amplifies it until machines disagree.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is LlamaRMSNorm:
                norm = torch.nn.RMSNorm(child.weight.shape[0], eps=child.variance_epsilon, device="meta")
                norm.weight = child.weight
                setattr(parent, name, norm)
            elif type(child) is LlamaRotaryEmbedding and child.rope_type == "default":
                config = child.config
                width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
                theta = float(config.rope_parameters["rope_theta"])  # type: ignore[index, arg-type]
                setattr(parent, name, Float64RotaryEmbedding(theta=theta, width=width))
