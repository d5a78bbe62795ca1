"""What a model answers and how likely it finds every reference text: the rows that all metrics reduce."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from meow_lightning.data.prompts import Codec
from meow_lightning.evaluation.likelihood import likelihoods
from meow_lightning.memo.engine import continue_greedily
from meow_lightning.memo.room import Room
from meow_lightning.types import AnswerRow, Fact, Likelihood

Question = tuple[str, int, Fact]  # evaluation set, index in it, fact


def _references(fact: Fact) -> list[str]:
    return [fact.answer, *([fact.paraphrase] if fact.paraphrase is not None else []), *fact.perturbed]


def answer(
    model: torch.nn.Module, codec: Codec, questions: Sequence[Question], *, max_new_tokens: int, batch: int,
    slots: int | Room, progress: Callable[[int], None] | None,
) -> Iterator[AnswerRow]:  # fmt: skip
    """The answer rows of some questions, in their order.

    Args:
        model: A causal language model in evaluation mode.
        codec: Its prompts and tokens.
        questions: What to ask, with the reference texts in the fact.
        max_new_tokens: Budget of a greedy answer, in tokens; less where the model's context ends earlier.
        batch: Rows per forward pass when scoring.
        slots: Prompts generated side by side.
        progress: Told how many questions are done.
    """
    encoded = [codec.encode(fact.question, text) for _, _, fact in questions for text in _references(fact)]
    scored: dict[int, Likelihood] = dict(likelihoods(model, encoded, pad_id=codec.pad_id, batch=batch, progress=None))
    prompts = [codec.prompt_ids(fact.question) for _, _, fact in questions]
    budgets = [min(max_new_tokens, codec.context - len(prompt)) for prompt in prompts]
    generated = dict(
        continue_greedily(
            model, prompts, budgets=budgets, end_ids=codec.end_ids, pad_id=codec.pad_id, slots=slots, progress=progress
        )
    )
    at = 0
    for number, (name, index, fact) in enumerate(questions):
        mine = [scored[at + i] for i in range(len(_references(fact)))]
        at += len(mine)
        said = generated[number]
        first_wrong = 1 if fact.paraphrase is None else 2
        yield AnswerRow(
            set=name, index=index, fact=fact.id, question=fact.question, answer=fact.answer, value=fact.value,
            truth=mine[0], paraphrase=None if fact.paraphrase is None else mine[1], perturbed=tuple(mine[first_wrong:]),
            generated=said.ids, text=codec.said(said.ids), stop=said.stop,
        )  # fmt: skip
