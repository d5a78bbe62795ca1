"""Models that exist at inference only: next-token logits computed from those of several causal language models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class Caches:
    """One key-value cache per inner model, with the same rows in each.

    Args:
        count: Number of models.
    """

    def __init__(self, count: int) -> None:
        self.each = [DynamicCache() for _ in range(count)]

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows, in this order."""
        for cache in self.each:
            cache.batch_select_indices(indices)


class LogitsModel(torch.nn.Module):
    """A language model whose logits are a function of those of other models over the same tokens.

    An unlearning method returns one from ``inference`` where evaluation must not ask the trained model itself, such as
    ``big - w * small``. It is called like a causal language model of transformers. Generation uses padded batches with
    a cache per model if a trial shows that these leave its logits unchanged, else one prompt at a time without a cache;
    likelihoods use padded batches. Prefix sharing and packing, which rely on the code of known architectures, are off.

    Subclasses override :meth:`combine`, or :meth:`forward` for anything else.

    Args:
        models: The models; the first one's config, dtype, device and generation settings stand for the whole.
    """

    def __init__(self, *models: PreTrainedModel) -> None:
        super().__init__()
        self.models = torch.nn.ModuleList(models)
        self.generation_config = models[0].generation_config or GenerationConfig()

    def combine(self, *logits_BTV: torch.Tensor) -> torch.Tensor:  # noqa: N803
        """Compute the logits, (B, T, V), from those of the models, in their order.

        Raises:
            NotImplementedError: Always; a subclass must override it.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no combine")

    def forward(
        self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None, past_key_values: Caches | None = None, use_cache: bool = False,
        logits_to_keep: int | torch.Tensor = 0,
    ) -> CausalLMOutput:  # fmt: skip
        """Run all models on the same tokens.

        Args:
            input_ids: New tokens, (B, T).
            attention_mask: 1 on tokens, 0 on padding, (B, T so far).
            position_ids: Positions of the new tokens, (B, T).
            past_key_values: The result of :meth:`new_cache`, filled in place.
            use_cache: Whether to fill it.
            logits_to_keep: As in transformers: the number of last positions (0: all), or indices of positions.
        """
        caches: Sequence[Any] = [None] * len(self.models) if past_key_values is None else past_key_values.each
        logits = [
            model(
                input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, past_key_values=cache,
                use_cache=use_cache, logits_to_keep=logits_to_keep,
            ).logits
            for model, cache in zip(self.models, caches, strict=True)
        ]  # fmt: skip
        return CausalLMOutput(logits=self.combine(*logits))  # type: ignore[arg-type]

    def decoder(self) -> LogitsModel:
        """Return the model that generation asks for the next token; the default: this one.

        It has the same models and the same greedy tokens. Another one may exclude tokens by logits of minus infinity,
        which would make likelihoods infinite.
        """
        return self

    def new_cache(self) -> Caches:
        """Create an empty cache for one batch."""
        return Caches(len(self.models))

    @torch.inference_mode()
    def generate(
        self, inputs: torch.Tensor, *, attention_mask: torch.Tensor, max_new_tokens: int, pad_token_id: int,
        eos_token_id: int | Sequence[int] | None = None,
        logits_processor: Callable[..., torch.Tensor] | None = None, **_: Any,
    ) -> torch.Tensor:  # fmt: skip
        """Continue a left-padded batch greedily without a cache: slow, and independent of the generation engine.

        Arguments are those of transformers' ``generate``, of which only greedy decoding is supported.

        Args:
            inputs: Prompts, (B, T).
            attention_mask: 1 on tokens, 0 on padding, (B, T).
            max_new_tokens: Budget, from 1.
            pad_token_id: Fills rows that have ended.
            eos_token_id: Tokens that end a text; default: those of ``generation_config``.
            logits_processor: Receives the tokens so far and the logits of the next one, (B, V).

        Returns:
            Prompts and new tokens, (B, up to T + max_new_tokens).
        """
        ends = self.generation_config.eos_token_id if eos_token_id is None else eos_token_id
        end_ids = torch.tensor([ends] if isinstance(ends, int) else list(ends or ()), device=inputs.device)
        ended = torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
        decoder = self.decoder()
        for _step in range(max_new_tokens):
            positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
            logits = decoder(
                input_ids=inputs, attention_mask=attention_mask, position_ids=positions, logits_to_keep=1
            ).logits[:, -1]
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            if logits_processor is not None:
                logits = logits_processor(inputs, logits)
            tokens = logits.argmax(-1).masked_fill(ended, pad_token_id)
            inputs = torch.cat([inputs, tokens[:, None]], dim=-1)
            attention_mask = torch.cat([attention_mask, torch.ones_like(tokens[:, None])], dim=-1)
            ended |= torch.isin(tokens, end_ids)
            if bool(ended.all()):
                break
        return inputs

    @property
    def _first(self) -> PreTrainedModel:
        return self.models[0]  # type: ignore[return-value]

    @property
    def config(self) -> PreTrainedConfig:
        """Config of the first model."""
        return self._first.config

    @property
    def device(self) -> torch.device:
        """Device of the first model."""
        return self._first.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the first model."""
        return self._first.dtype

    def num_parameters(self) -> int:
        """Count the weights of all models, shared ones once."""
        return sum(weight.numel() for weight in self.parameters())
