"""Prediction rows under published evaluation protocols: their prompts, scored tokens, batches and budgets."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.evaluation.loglikelihood import loglikelihoods
from meow_lightning.evaluation.predict import Question, answer_row, references, true_gradients
from meow_lightning.evaluation.protocols.registry import PROTOCOLS, EvaluationProtocol
from meow_lightning.types import AnswerRow, Fact, Likelihood


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
    rows = [protocol.row(codec, fact.question, text) for _, _, fact in questions for text in references(fact)]
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
    likely = (scored[number] for number in range(len(scored)))
    prompts = [protocol.prompt(codec, fact.question) for _, _, fact in questions]
    for start in range(0, len(prompts), protocol.batch_size):
        generations = generate(
            model, prompts[start : start + protocol.batch_size], pad_id=codec.pad_id, protocol=protocol
        )
        for number, each in enumerate(generations, start=start):
            text = codec.decode(each.ids, keep_special=False)
            row = answer_row(
                questions[number], likely, ids=each.ids, text=text, stop=each.stop, gradient=norms.get(number)
            )
            yield replace(row, scored_text=_scored_text(codec, row)) if protocol.decodes_scored_text else row
        if progress is not None:
            progress(min(start + protocol.batch_size, len(prompts)))


def truncated_facts(name: str, codec: PromptEncoder, facts: Sequence[Fact]) -> int:
    """Number of true answers of a set that exceed the published evaluator's token budget.

    Even if recited word for word, such an answer counts as only partly recalled.

    Args:
        name: ``tofu`` or ``open_unlearning``.
        codec: The model's prompts and tokens.
        facts: The counted questions of one set, in order.
    """
    protocol, found = PROTOCOLS[name], 0
    for start in range(0, len(facts), protocol.batch_size):
        batch = facts[start : start + protocol.batch_size]
        prompts = [protocol.prompt(codec, fact.question) for fact in batch]
        budget = _budget(prompts, protocol)
        rows = [codec.encode(fact.question, fact.answer).ids[:-1] for fact in batch]  # without the end token
        found += sum(len(row) - len(prompt) > budget for row, prompt in zip(rows, prompts, strict=True))
    return found


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
    real = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    mask = (ids != pad_id).long() if protocol.mask_pad_ids else real
    device = next(model.parameters()).device
    made = model.generate(  # type: ignore[operator]
        ids.to(device), attention_mask=mask.to(device), do_sample=False, num_beams=1, pad_token_id=pad_id,
        max_new_tokens=_budget(prompts, protocol), max_length=None,
    )  # fmt: skip
    named = model.generation_config.eos_token_id  # type: ignore[union-attr]
    ends = frozenset([named] if isinstance(named, int) else named or ())  # type: ignore[arg-type]
    return [_cut_at_end(row, ends) for row in made[:, longest:].tolist()]


def _scored_text(codec: PromptEncoder, row: AnswerRow) -> str:
    return str(codec.tokenizer.decode(list(row.truth.ids), skip_special_tokens=True))


def _budget(prompts: Sequence[Sequence[int]], protocol: EvaluationProtocol) -> int:
    """Token budget of a batch."""
    left = None if protocol.max_total_tokens is None else protocol.max_total_tokens - max(map(len, prompts))
    return max(1, min(each for each in (protocol.max_new_tokens, left) if each is not None))


def _cut_at_end(ids: list[int], ends: frozenset[int]) -> Generation:
    last = next((at for at, token in enumerate(ids) if token in ends), None)
    return Generation(tuple(ids), "length") if last is None else Generation(tuple(ids[:last]), "end")
