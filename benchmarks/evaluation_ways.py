"""The evaluation the straightforward ways: a pass per metric, file order, logits at all positions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from meow_lightning.data.collate import collate
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.evaluation.sets import set_info
from meow_lightning.generation.batching import Continuation
from meow_lightning.types import AnswerRow, Encoded, Fact, Likelihood

Sets = dict[str, list[Fact]]
Measure = Callable[[torch.Tensor, torch.Tensor], list[torch.Tensor]]
Asked = tuple[Fact, str]  # and the answer that is scored


class Way(NamedTuple):
    """How a straightforward evaluation batches.

    Attributes:
        size: Rows of a batch.
        width: Tokens that a row is padded to at least.
        length: Most tokens of a generated text with its prompt and padding; ``None`` where new tokens are counted.
        again: Whether options score the true answer again.
    """

    size: int
    width: int
    length: int | None
    again: bool


WAYS = {
    "published": Way(size=30, width=200, length=200, again=True),
    "plain": Way(size=32, width=0, length=None, again=False),
}


def logps_of(logits_BTV: torch.Tensor, input_ids_BT: torch.Tensor) -> list[torch.Tensor]:  # noqa: N803
    """Log-probabilities, by a cross-entropy over all positions."""
    nll = functional.cross_entropy(logits_BTV.flatten(0, 1), input_ids_BT.flatten(), reduction="none")
    return [-nll.view(input_ids_BT.shape)]


def spread_of(logits_BTV: torch.Tensor, input_ids_BT: torch.Tensor) -> list[torch.Tensor]:  # noqa: N803
    """Log-probabilities with their mean and deviation under the model's own distribution."""
    logps = logits_BTV.log_softmax(-1)
    p = logps.exp()
    mean = (p * logps).sum(-1)
    std = (p * (logps - mean[..., None]).square()).sum(-1).sqrt()
    return [logps.gather(-1, input_ids_BT[..., None]).squeeze(-1), mean, std]


def hits_of(logits_BTV: torch.Tensor, input_ids_BT: torch.Tensor) -> list[torch.Tensor]:  # noqa: N803
    """1 where a token is the model's first choice, else 0."""
    return [(logits_BTV.argmax(-1) == input_ids_BT).int()]


@torch.inference_mode()
def passed(model: Any, codec: PromptEncoder, asked: Iterable[Asked], measure: Measure, way: Way) -> list[list[Any]]:
    """What one metric's pass measures at the answer's tokens, by row."""
    rows = [codec.encode(fact.question, text) for fact, text in asked]
    found: list[list[Any]] = []
    for start in range(0, len(rows), way.size):
        chosen = rows[start : start + way.size]
        ids, attention, answers, _ = collate(chosen, pad_id=codec.pad_id)
        more = (0, max(0, way.width - ids.shape[1]))
        ids, attention = functional.pad(ids, more, value=codec.pad_id), functional.pad(attention, more)
        labels = ids.masked_fill(functional.pad(answers, more) == 0, -100)
        logits = model(input_ids=ids, attention_mask=attention, labels=labels, use_cache=False).logits
        measured = measure(logits[:, :-1].contiguous(), ids[:, 1:].contiguous())
        found += [[each[at, answer_of(row)].tolist() for each in measured] for at, row in enumerate(chosen)]
    return found


def answer_of(row: Encoded) -> slice:
    """The positions that predict the answer's tokens."""
    return slice(row.prompt - 1, len(row.ids) - 1)


def scored(model: Any, codec: PromptEncoder, name: str, facts: Sequence[Fact], way: Way) -> list[dict[str, Any]]:
    """The likelihoods of every fact's texts, a pass of the set per metric.

    Min-K% and extraction strength are taken of the forget set alone, as published.
    """
    truths = [(fact, fact.answer) for fact in facts]

    def run(asked: Iterable[Asked], measure: Measure = logps_of) -> Iterator[list[Any]]:
        return iter(passed(model, codec, asked, measure, way))

    def bare(text: Asked, logps: list[float], hits: Any = (), mean: Any = (), std: Any = ()) -> Likelihood:
        return Likelihood((*codec.answer_ids(text[1]), codec.end_id), logps, hits, mean, std)

    logps = [each for (each,) in run(truths)]
    if way.again and set_info(name).scoring == "options":
        logps = [each for (each,) in run(truths)]
    reworded = run((fact, fact.paraphrase) for fact in facts if fact.paraphrase is not None)
    wrong = run((fact, text) for fact in facts for text in fact.perturbed)
    more: list[list[Any]] = [[] for _ in facts]
    if name == "forget":
        spreads = run(truths, spread_of)
        more = [[*hit, mean, std] for hit, (_, mean, std) in zip(run(truths, hits_of), spreads, strict=True)]
    return [
        {
            "truth": bare(text, its, *rest),
            "paraphrase": None if text[0].paraphrase is None else bare((text[0], text[0].paraphrase), *next(reworded)),
            "perturbed": tuple(bare((text[0], each), *next(wrong)) for each in text[0].perturbed),
        }
        for text, its, rest in zip(truths, logps, more, strict=True)
    ]


@torch.inference_mode()
def generated(
    model: Any, codec: PromptEncoder, facts: Sequence[Fact], way: Way, *, budget: int
) -> list[tuple[Continuation, int]]:
    """What the model says to every question by transformers' ``generate``, and how many tokens it was let say."""
    found: list[tuple[Continuation, int]] = []
    for start in range(0, len(facts), way.size):
        prompts = [codec.prompt_ids(fact.question) for fact in facts[start : start + way.size]]
        width = max(map(len, prompts))
        ids = [[codec.pad_id] * (width - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        most = budget if way.length is None else way.length - width
        rows = model.generate(
            torch.tensor(ids), attention_mask=torch.tensor(mask), do_sample=False, max_new_tokens=most,
            eos_token_id=sorted(codec.end_ids), pad_token_id=codec.pad_id,
        )[:, width:].tolist()  # fmt: skip
        for prompt, new in zip(prompts, rows, strict=True):
            room = min(most, codec.context - len(prompt))
            found.append((said(new, codec.end_ids).within(room), room))
    return found


def said(new: list[int], end_ids: frozenset[int]) -> Continuation:
    """New tokens that may go on with padding after their end."""
    at = next((at for at, token in enumerate(new) if token in end_ids), None)
    return Continuation(tuple(new), None) if at is None else Continuation(tuple(new[:at]), new[at])


def row_of(
    name: str, index: int, fact: Fact, text: Continuation, codec: PromptEncoder, likely: dict[str, Any]
) -> AnswerRow:
    """The row that all metrics reduce."""
    return AnswerRow(
        set=name, index=index, fact=fact.id, question=fact.question, answer=fact.answer, value=fact.value,
        generated=text.ids, text=codec.decode_answer(text.ids), stop=text.stop, **likely,
    )  # fmt: skip
