"""Prediction rows, the input of all metrics: a model's greedy answers and the likelihoods of its reference texts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Literal

import torch

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.evaluation.gradient import gradient_norms
from meow_lightning.evaluation.loglikelihood import loglikelihoods
from meow_lightning.generation.batch_size import AdaptiveBatchSize
from meow_lightning.generation.engine import continue_greedily
from meow_lightning.types import AnswerRow, Encoded, Fact, Likelihood

Question = tuple[str, int, Fact]  # evaluation set, index in it, fact
MARGIN = 8  # tokens allowed beyond the true answer and its end token, for example for an introductory word


def references(fact: Fact) -> list[str]:
    """List the texts whose likelihood is computed: true answer, paraphrase if any, wrong answers."""
    return [fact.answer, *([fact.paraphrase] if fact.paraphrase is not None else []), *fact.perturbed]


def generation_budget(codec: PromptEncoder, fact: Fact, *, max_new_tokens: int) -> int:
    """Compute the token budget of a question, at least its true answer's length so that recitation is not cut off.

    Args:
        codec: The model's prompts and tokens.
        fact: The question with its true answer.
        max_new_tokens: Budget if the true answer is short enough; the model's context may leave less.
    """
    row, prompt = codec.reference(fact.question, fact.answer), codec.generation_prompt_ids(fact.question)
    return min(max(max_new_tokens, len(row.ids) - row.prompt + MARGIN), codec.context - len(prompt))


def predict(
    model: torch.nn.Module, codec: PromptEncoder, questions: Sequence[Question], *, max_new_tokens: int, batch: int,
    slots: int | AdaptiveBatchSize, gradients: Container[str], progress: Callable[[int], None] | None,
) -> Iterator[AnswerRow]:  # fmt: skip
    """Yield the prediction rows of questions, in order.

    Args:
        model: A causal language model in evaluation mode.
        codec: Its prompts and tokens.
        questions: Questions, each with the reference texts in its fact.
        max_new_tokens: Budget of a greedy answer, in tokens; more where the true answer is longer, see
            :func:`generation_budget`.
        batch: Rows per forward pass when scoring.
        slots: Prompts generated in parallel.
        gradients: Evaluation sets for which the gradient norm of the true answers is computed.
        progress: Called with the number of questions finished.
    """
    encoded = [codec.reference(fact.question, text) for _, _, fact in questions for text in references(fact)]
    scored: dict[int, Likelihood] = dict(
        loglikelihoods(model, encoded, pad_id=codec.pad_id, batch=batch, progress=None)
    )
    prompts = [codec.generation_prompt_ids(fact.question) for _, _, fact in questions]
    budgets = [generation_budget(codec, fact, max_new_tokens=max_new_tokens) for _, _, fact in questions]
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
            text=codec.decode_answer(generation.ids),
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
        rows: Their reference texts as tokens, question by question in the order of :func:`references`.
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
        likelihoods: Iterator at this question's reference texts, in the order of :func:`references`; advanced past
            them.
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
        generated=ids, text=text, stop=stop, gradient=gradient,
    )  # fmt: skip
