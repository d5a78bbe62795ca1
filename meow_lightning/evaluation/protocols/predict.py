"""Prediction rows under published evaluation protocols: their prompts, scored tokens, batches and budgets."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch

from meow_lightning.data.examples import Example, references
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.evaluation.loglikelihood import loglikelihoods
from meow_lightning.evaluation.predict import Question, answer_row, true_gradients
from meow_lightning.evaluation.protocols.registry import PROTOCOLS, EvaluationProtocol
from meow_lightning.types import AnswerRow, Likelihood


class Generation(NamedTuple):
    """A generated answer."""

    ids: tuple[int, ...]
    stop: Literal["end", "length"]


def predict_under_protocol(
    name: str, model: torch.nn.Module, codec: PromptEncoder, questions: Sequence[Question], *, batch: int,
    gradients: Container[str], progress: Callable[[int], None] | None,
) -> Iterator[AnswerRow]:  # fmt: skip
    """Yield the prediction rows of questions of one set, in order, as a published evaluator computes them.

    Pass whole batches of that evaluator, in its order: its token budget may depend on the batch. Answers are the
    decoded text unchanged, including words of the answer prefix.

    Args:
        name: ``tofu`` or ``open_unlearning``.
        model: A causal language model in evaluation mode.
        codec: Its prompts and tokens.
        questions: Questions, each with the reference texts in its fact.
        batch: Rows per forward pass when scoring; does not affect results.
        gradients: Evaluation sets for which the gradient norm of the true answers is computed.
        progress: Called with the number of questions finished.
    """
    protocol = PROTOCOLS[name]
    rows = [protocol.row(codec, each.prompt, each.target) for _, _, fact in questions for each in references(fact)]
    scored: dict[int, Likelihood] = dict(
        loglikelihoods(model, rows, pad_id=codec.pad_id, batch=batch, progress=None, mask_pad_ids=protocol.mask_pad_ids)
    )
    norms = true_gradients(
        model,
        questions,
        rows,
        sets=gradients,
        pad_id=codec.pad_id,
        mask_pad_ids=protocol.mask_pad_ids,
        mean_over_tensors=protocol.mean_over_tensors,
    )
    likelihoods = (scored[number] for number in range(len(scored)))
    prompts = [protocol.prompt(codec, fact.question) for _, _, fact in questions]
    for start in range(0, len(prompts), protocol.batch_size):
        generations = generate(
            model, prompts[start : start + protocol.batch_size], pad_id=codec.pad_id, protocol=protocol
        )
        for number, generation in enumerate(generations, start=start):
            row = answer_row(
                questions[number],
                likelihoods,
                ids=generation.ids,
                text=codec.decode(generation.ids, keep_special=False),
                stop=generation.stop,
                gradient=norms.get(number),
            )
            yield replace(row, scored_text=_scored_text(codec, row)) if protocol.decodes_scored_text else row
        if progress is not None:
            progress(min(start + protocol.batch_size, len(prompts)))


def truncated_facts(name: str, codec: PromptEncoder, facts: Sequence[Example]) -> int:
    """Count the true answers of a set that exceed the published evaluator's token budget.

    Even if recited verbatim, such an answer counts as only partly recalled.

    Args:
        name: ``tofu`` or ``open_unlearning``.
        codec: The model's prompts and tokens.
        facts: The evaluated questions of one set, in order.
    """
    protocol, truncated = PROTOCOLS[name], 0
    for start in range(0, len(facts), protocol.batch_size):
        batch = facts[start : start + protocol.batch_size]
        prompts = [protocol.prompt(codec, fact.question) for fact in batch]
        budget = _budget(prompts, protocol)
        rows = [codec.encode(fact.question, fact.answer).ids[:-1] for fact in batch]  # without the end token
        truncated += sum(len(row) - len(prompt) > budget for row, prompt in zip(rows, prompts, strict=True))
    return truncated


@torch.inference_mode()
def generate(
    model: torch.nn.Module, prompts: Sequence[Sequence[int]], *, pad_id: int, protocol: EvaluationProtocol
) -> list[Generation]:
    """Generate greedy continuations of one left-padded batch of prompts with transformers' ``generate``.

    Generation stops only at the end tokens of the model's own generation config: published Phi-1.5 models have none
    and continue until the budget is used up.

    Args:
        model: A causal language model.
        prompts: Token ids of the prompts.
        pad_id: Token id of padding.
        protocol: Protocol that sets the budget.
    """
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    not_padding = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    mask = (ids != pad_id).long() if protocol.mask_pad_ids else not_padding
    device = next(model.parameters()).device
    generated = model.generate(  # type: ignore[operator]
        ids.to(device), attention_mask=mask.to(device), do_sample=False, num_beams=1, pad_token_id=pad_id,
        max_new_tokens=_budget(prompts, protocol), max_length=None,
    )  # fmt: skip
    eos = model.generation_config.eos_token_id  # type: ignore[union-attr]
    end_ids = frozenset([eos] if isinstance(eos, int) else eos or ())  # type: ignore[arg-type]
    return [_cut_at_end(row, end_ids) for row in generated[:, longest:].tolist()]


def _scored_text(codec: PromptEncoder, row: AnswerRow) -> str:
    return str(codec.tokenizer.decode(list(row.truth.ids), skip_special_tokens=True))


def _budget(prompts: Sequence[Sequence[int]], protocol: EvaluationProtocol) -> int:
    """Compute the token budget of a batch."""
    remaining = None if protocol.max_total_tokens is None else protocol.max_total_tokens - max(map(len, prompts))
    return max(1, min(limit for limit in (protocol.max_new_tokens, remaining) if limit is not None))


def _cut_at_end(ids: list[int], end_ids: frozenset[int]) -> Generation:
    end = next((position for position, token in enumerate(ids) if token in end_ids), None)
    return Generation(tuple(ids), "length") if end is None else Generation(tuple(ids[:end]), "end")
