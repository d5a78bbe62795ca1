"""The model under an attack that asks it: greedy and sampled answers to any prompt, the same for any batch size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

    from meow_lightning.data.prompting import PromptEncoder
    from meow_lightning.generation.batch_size import AdaptiveBatchSize
    from meow_lightning.generation.sampled import Sampling


class Prompt(NamedTuple):
    """A prompt to a model.

    Attributes:
        text: The question, or what takes its place in the model's prompt template; the beginning of a raw text.
        begun: First words of the answer, which the model continues; usually empty.
        raw: Whether ``text`` is raw text, without a template.
    """

    text: str
    begun: str = ""
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

    def answers(
        self, prompts: Sequence[Prompt], *, budgets: Sequence[int], progress: Callable[[int], None] | None
    ) -> list[str]:
        """Answer prompts greedily; an answer to a begun one includes its beginning.

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

        sampler = Sampler(
            self._model, sampling=sampling, end_ids=self._codec.end_ids, pad_id=self._codec.pad_id, slots=self._slots
        )
        ids = self._ids(prompt)
        texts = sampler.sample(ids, seeds=seeds, budget=self._fit(ids, budget))
        return [self._decode(prompt, text.ids) for text in texts]

    def _ids(self, prompt: Prompt) -> list[int]:
        if prompt.begun:
            return self._codec.partial_ids(prompt.text, prompt.begun)
        return self._codec.generation_prompt_ids(prompt.text, prompt.raw)

    def _fit(self, ids: Sequence[int], budget: int) -> int:
        return max(0, min(budget, self._codec.context - len(ids)))

    def _decode(self, prompt: Prompt, ids: Sequence[int]) -> str:
        if not prompt.begun:
            return self._codec.decode_answer(ids, prompt.raw)
        return self._codec.decode_answer([*self._codec.answer_ids(prompt.begun), *ids])
