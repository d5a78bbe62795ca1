"""Answer rows as published evaluators make them: their prompts, their scored tokens, their batches and budgets."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.evaluation.loglikelihood import loglikelihoods
from meow_lightning.evaluation.predict import Question, answer_row, references, true_gradients
from meow_lightning.evaluation.protocols.registry import PUBLISHED, Compat
from meow_lightning.types import AnswerRow, Fact, Likelihood


class Said(NamedTuple):
    """A generated answer."""

    ids: tuple[int, ...]
    stop: Literal["end", "length"]


def predict_under_protocol(
    name: str, model: torch.nn.Module, codec: PromptEncoder, questions: Sequence[Question], *, batch: int,
    gradients: Container[str], progress: Callable[[int], None] | None,
) -> Iterator[AnswerRow]:  # fmt: skip
    """The answer rows of some questions of one set, in their order, as a published evaluator would have them.

    Whole batches of that evaluator must be given, in its order: what it lets a model say may depend on the batch.
    Answers are the decoded text as it is, words of the lead included.

    Args:
        name: ``tofu`` or ``open_unlearning``.
        model: A causal language model in evaluation mode.
        codec: Its prompts and tokens.
        questions: What to ask, with the reference texts in the fact.
        batch: Rows per forward pass when scoring; changes no number.
        gradients: Evaluation sets of whose true answers the norm of the gradient is measured.
        progress: Told how many questions are done.
    """
    way = PUBLISHED[name]
    rows = [way.row(codec, fact.question, text) for _, _, fact in questions for text in references(fact)]
    scored: dict[int, Likelihood] = dict(
        loglikelihoods(model, rows, pad_id=codec.pad_id, batch=batch, progress=None, blind=way.blind)
    )
    norms = true_gradients(
        model, questions, rows, sets=gradients, pad_id=codec.pad_id, blind=way.blind, tensorwise=way.tensorwise
    )
    likely = (scored[number] for number in range(len(scored)))
    prompts = [way.prompt(codec, fact.question) for _, _, fact in questions]
    for start in range(0, len(prompts), way.batch):
        said = generate(model, prompts[start : start + way.batch], pad_id=codec.pad_id, way=way)
        for number, each in enumerate(said, start=start):
            text = codec.decode(each.ids, keep_special=False)
            row = answer_row(
                questions[number], likely, ids=each.ids, text=text, stop=each.stop, gradient=norms.get(number)
            )
            yield replace(row, scored_text=_spelled(codec, row)) if way.rereads else row
        if progress is not None:
            progress(min(start + way.batch, len(prompts)))


def truncated_facts(name: str, codec: PromptEncoder, facts: Sequence[Fact]) -> int:
    """How many true answers of a set have more tokens than the published evaluator lets a model say.

    Recited word for word, such an answer counts as said in part.

    Args:
        name: ``tofu`` or ``open_unlearning``.
        codec: The model's prompts and tokens.
        facts: The questions of one set that count, in order.
    """
    way, found = PUBLISHED[name], 0
    for start in range(0, len(facts), way.batch):
        batch = facts[start : start + way.batch]
        prompts = [way.prompt(codec, fact.question) for fact in batch]
        budget = _budget(prompts, way)
        rows = [codec.encode(fact.question, fact.answer).ids[:-1] for fact in batch]  # the end token needs no room
        found += sum(len(row) - len(prompt) > budget for row, prompt in zip(rows, prompts, strict=True))
    return found


@torch.inference_mode()
def generate(model: torch.nn.Module, prompts: Sequence[Sequence[int]], *, pad_id: int, way: Compat) -> list[Said]:
    """The greedy continuations of one batch of prompts by transformers' ``generate``, padded on the left.

    It stops where the model's own generation settings name an end token, and nowhere else: published Phi-1.5 models
    name none and talk on until the budget ends.

    Args:
        model: A causal language model.
        prompts: Token ids of the prompts.
        pad_id: Token id of padding.
        way: Whose batch it is.
    """
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
    real = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    mask = (ids != pad_id).long() if way.blind else real
    device = next(model.parameters()).device
    made = model.generate(  # type: ignore[operator]
        ids.to(device), attention_mask=mask.to(device), do_sample=False, num_beams=1, pad_token_id=pad_id,
        max_new_tokens=_budget(prompts, way), max_length=None,
    )  # fmt: skip
    named = model.generation_config.eos_token_id  # type: ignore[union-attr]
    ends = frozenset([named] if isinstance(named, int) else named or ())  # type: ignore[arg-type]
    return [_until(row, ends) for row in made[:, longest:].tolist()]


def _spelled(codec: PromptEncoder, row: AnswerRow) -> str:
    return str(codec.tokenizer.decode(list(row.truth.ids), skip_special_tokens=True))


def _budget(prompts: Sequence[Sequence[int]], way: Compat) -> int:
    """Tokens that a batch may say."""
    left = None if way.total is None else way.total - max(map(len, prompts))
    return max(1, min(each for each in (way.new, left) if each is not None))


def _until(ids: list[int], ends: frozenset[int]) -> Said:
    last = next((at for at, token in enumerate(ids) if token in ends), None)
    return Said(tuple(ids), "length") if last is None else Said(tuple(ids[:last]), "end")
