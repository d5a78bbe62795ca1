"""Model under an extraction attack: greedy and sampled answers, independent of the batch size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

    from meow_lightning.data.prompting import PromptEncoder
    from meow_lightning.generation.batch_size import AdaptiveBatchSize
    from meow_lightning.generation.sampled import Sampler, Sampling


class Prompt(NamedTuple):
    """A prompt to a model.

    Attributes:
        text: The question, or what takes its place in the model's prompt template; the beginning of a raw text.
        raw: Whether ``text`` is raw text, without a template.
    """

    text: str
    raw: bool = False


class Victim:
    """A model that an attack asks.

    Args:
        model: The model in evaluation mode, on its device.
        codec: Its prompts and tokens.
        slots: Texts generated in parallel; affects speed and memory alone.
    """

    def __init__(self, model: torch.nn.Module, codec: PromptEncoder, *, slots: AdaptiveBatchSize) -> None:
        self._model, self._codec, self._slots = model, codec, slots
        self._samplers: dict[Sampling, Sampler] = {}

    def answers(
        self, prompts: Sequence[Prompt], *, budgets: Sequence[int], progress: Callable[[int], None] | None
    ) -> list[str]:
        """Answer prompts greedily.

        Args:
            prompts: The prompts.
            budgets: Maximum number of new tokens of each; the model's context may leave less.
            progress: Called with the number of prompts finished.
        """
        from meow_lightning.generation.engine import continue_greedily

        ids = [self._ids(prompt) for prompt in prompts]
        fitting = [self._fit(each, budget) for each, budget in zip(ids, budgets, strict=True)]
        found = dict(
            continue_greedily(
                self._model, ids, budgets=fitting, end_ids=self._codec.end_ids, pad_id=self._codec.pad_id,
                slots=self._slots, progress=progress,
            )
        )  # fmt: skip
        return [self._decode(prompt, found[place].ids) for place, prompt in enumerate(prompts)]

    def samples(self, prompt: Prompt, *, seeds: Sequence[str], sampling: Sampling, budget: int) -> list[str]:
        """Sample one answer per seed, see :class:`~meow_lightning.generation.sampled.Sampler`.

        Args:
            prompt: The prompt.
            seeds: Seed of each answer.
            sampling: How tokens are sampled.
            budget: Maximum number of new tokens; the model's context may leave less.
        """
        from meow_lightning.generation.sampled import Sampler

        if sampling not in self._samplers:
            self._samplers[sampling] = Sampler(
                self._model, sampling=sampling, end_ids=self._codec.end_ids, pad_id=self._codec.pad_id,
                slots=self._slots,
            )  # fmt: skip
        ids = self._ids(prompt)
        texts = self._samplers[sampling].sample(ids, seeds=seeds, budget=self._fit(ids, budget))
        return [self._decode(prompt, text.ids) for text in texts]

    def _ids(self, prompt: Prompt) -> list[int]:
        return self._codec.generation_prompt_ids(prompt.text, prompt.raw)

    def _fit(self, ids: Sequence[int], budget: int) -> int:
        return max(0, min(budget, self._codec.context - len(ids)))

    def _decode(self, prompt: Prompt, ids: Sequence[int]) -> str:
        return self._codec.decode_answer(ids, prompt.raw)
