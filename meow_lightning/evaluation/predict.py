"""Prediction rows, the input of all metrics: a model's greedy answers and the likelihoods of its reference texts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Literal

import torch

from meow_lightning.data.examples import Example, references
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.evaluation.gradient import gradient_norms
from meow_lightning.evaluation.loglikelihood import loglikelihoods
from meow_lightning.generation.batch_size import AdaptiveBatchSize
from meow_lightning.generation.engine import continue_greedily
from meow_lightning.types import AnswerRow, Encoded, Likelihood

Question = tuple[str, int, Example]  # evaluation set, index in it, example
MARGIN = 8  # tokens allowed beyond the true answer and its end token, for example for an introductory word


def generation_budget(codec: PromptEncoder, example: Example, *, max_new_tokens: int) -> int:
    """Compute the token budget of an example, at least its true answer's length so that recitation is not cut off.

    For a passage, which goes on in its document, it is the number of scored tokens: a longer continuation would be
    compared with a text that ends earlier.

    Args:
        codec: The model's prompts and tokens.
        example: The question with its true answer, or the passage.
        max_new_tokens: Budget if the true answer is short enough; the model's context may leave less.
    """
    row, prompt = codec.reference(*example.segments), generation_prompt(codec, example)
    budget = row.scored if example.segments.raw else max(max_new_tokens, row.scored + MARGIN)
    return min(budget, codec.context - len(prompt))


def generation_prompt(codec: PromptEncoder, example: Example) -> list[int]:
    """Encode the prompt that a model continues."""
    return codec.generation_prompt_ids(example.segments.prompt, example.segments.raw)


def predict(
    model: torch.nn.Module, codec: PromptEncoder, questions: Sequence[Question], *, max_new_tokens: int, batch: int,
    slots: int | AdaptiveBatchSize, gradients: Container[str], progress: Callable[[int], None] | None,
) -> Iterator[AnswerRow]:  # fmt: skip
    """Yield the prediction rows of questions, in order.

    Args:
        model: A causal language model in evaluation mode.
        codec: Its prompts and tokens.
        questions: Questions or passages, each with its reference texts.
        max_new_tokens: Budget of a greedy answer, in tokens; more where the true answer is longer, see
            :func:`generation_budget`.
        batch: Rows per forward pass when scoring.
        slots: Prompts generated in parallel.
        gradients: Evaluation sets for which the gradient norm of the true answers is computed.
        progress: Called with the number of questions finished.
    """
    encoded = [codec.reference(*each) for _, _, example in questions for each in references(example)]
    scored: dict[int, Likelihood] = dict(
        loglikelihoods(model, encoded, pad_id=codec.pad_id, batch=batch, progress=None)
    )
    prompts = [generation_prompt(codec, example) for _, _, example in questions]
    budgets = [generation_budget(codec, example, max_new_tokens=max_new_tokens) for _, _, example in questions]
    generated = dict(
        continue_greedily(
            model, prompts, budgets=budgets, end_ids=codec.end_ids, pad_id=codec.pad_id, slots=slots, progress=progress
        )
    )
    norms = true_gradients(model, questions, encoded, sets=gradients, pad_id=codec.pad_id, mask_pad_ids=False)
    likelihoods = (scored[number] for number in range(len(scored)))
    for number, question in enumerate(questions):
        generation = generated[number]
        yield answer_row(
            question,
            likelihoods,
            ids=generation.ids,
            text=codec.decode_answer(generation.ids, question[2].segments.raw),
            stop=generation.stop,
            gradient=norms.get(number),
        )


def true_gradients(
    model: torch.nn.Module, questions: Sequence[Question], rows: Sequence[Encoded], *, sets: Container[str],
    pad_id: int, mask_pad_ids: bool, mean_over_tensors: bool = False,
) -> dict[int, float]:  # fmt: skip
    """Compute gradient norms of the true answers of the given sets, by question number.

    Args:
        model: As for :func:`~.gradient.gradient_norms`.
        questions: The questions.
        rows: Their reference texts as tokens, question by question in the order of
            :func:`~meow_lightning.data.examples.references`.
        sets: Evaluation sets to measure.
        pad_id: Token id of padding.
        mask_pad_ids: Whether tokens equal to the padding token are masked in attention.
        mean_over_tensors: Whether to compute open-unlearning's variant: the mean over weight tensors, without the end
            token. A true answer without another scored token is skipped.
    """
    firsts = itertools.accumulate((len(references(fact)) for _, _, fact in questions), initial=0)
    truths = {
        number: rows[first]
        for number, (first, (name, _, _)) in enumerate(zip(firsts, questions, strict=False))
        if name in sets
    }
    if mean_over_tensors:
        truths = {number: row._replace(ids=row.ids[:-1]) for number, row in truths.items() if row.scored > 1}
    norms = gradient_norms(
        model, [*truths.values()], pad_id=pad_id, mask_pad_ids=mask_pad_ids, mean_over_tensors=mean_over_tensors
    )
    return {number: norm for number, (_, norm) in zip(truths, norms, strict=True)}


def answer_row(
    question: Question, likelihoods: Iterator[Likelihood], *, ids: Sequence[int], text: str,
    stop: Literal["end", "length"], gradient: float | None,
) -> AnswerRow:  # fmt: skip
    """Assemble the prediction row of one question.

    Args:
        question: The question.
        likelihoods: Iterator at this question's reference texts, in the order of
            :func:`~meow_lightning.data.examples.references`; advanced past them.
        ids: Generated tokens, without the end token.
        text: The generated answer.
        stop: Whether the end token or the budget ended the answer.
        gradient: Gradient norm of the true answer; ``None`` if not computed.
    """
    name, index, fact = question
    texts = list(itertools.islice(likelihoods, len(references(fact))))
    first_wrong = 1 if fact.paraphrase is None else 2
    return AnswerRow(
        set=name, index=index, fact=fact.id, question=fact.question, answer=fact.answer, value=fact.value,
        truth=texts[0], paraphrase=None if fact.paraphrase is None else texts[1],
        perturbed=tuple(texts[first_wrong:]),
        generated=ids, text=text, stop=stop, gradient=gradient, values=fact.values,
    )  # fmt: skip
