"""Gradients of a fact's answers as a function: whether the inverted answers of one fact pull against each other."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meow_lightning.data.encoding import encode
from meow_lightning.errors import UserError
from meow_lightning.evaluation.gradient import gradient_cosines
from meow_lightning.models.language_model import LanguageModel
from meow_lightning.types import Fact, InvertedFact, Segments


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCosines:
    """Cosines between the gradients of the losses of one fact's answers, each -1 to 1.

    Attributes:
        fact: ``Fact.id``.
        inverted: Between two of its inverted answers, mean over pairs; below 0 they pull against each other.
        true: Between an inverted answer and the true one, mean; above 0 a step on the inverted one also makes the
            true one likelier.
        unrelated: Between its inverted answers and the first one of the next fact, mean: what any two answers have
            in common.
    """

    fact: str
    inverted: float
    true: float
    unrelated: float


def answer_cosines(
    model: LanguageModel, facts: Sequence[Fact], inverted: Sequence[InvertedFact]
) -> Iterator[AnswerCosines]:
    """Yield the gradient cosines of every fact that has two or more different inverted answers.

    Memory holds one full gradient per answer of a fact, and two more.

    Args:
        model: The model whose gradients are compared, such as the target model; all of its weights count.
        facts: The facts.
        inverted: Their inverted answers, such as those that a run trained on; repeated ones count once.

    Raises:
        UserError: Fewer than two facts have two different inverted answers.
    """
    answers: dict[str, list[str]] = {}
    for each in inverted:
        answers.setdefault(each.fact, []).append(each.answer)
    known = {fact: list(dict.fromkeys(texts)) for fact, texts in answers.items()}
    compared = [fact for fact in facts if len(known.get(fact.id, ())) > 1]
    if len(compared) < 2:
        raise UserError(
            f"{len(compared)} of {len(facts)} facts have two different inverted answers: expected 2 or more; raise "
            "method.select.k or inversion.candidates"
        )
    for fact, other in zip(compared, [*compared[1:], compared[0]], strict=True):
        texts = [*known[fact.id], fact.answer]
        segments = [Segments(fact.question, text) for text in texts]
        segments.append(Segments(other.question, known[other.id][0]))
        rows = encode(model.encoder, segments)
        cosines = gradient_cosines(model.model, rows, pad_id=model.encoder.pad_id)
        own = range(len(known[fact.id]))
        yield AnswerCosines(
            fact=fact.id,
            inverted=statistics.fmean(cosines[i][j] for i in own for j in own if i < j),
            true=statistics.fmean(cosines[i][-2] for i in own),
            unrelated=statistics.fmean(cosines[i][-1] for i in own),
        )
