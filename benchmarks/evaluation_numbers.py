"""The numbers of an evaluation, and how far those of one way are from those of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.evaluation.metrics.membership import SHARES, min_k_plus_plus_score, min_k_score
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.generation.batching import MARGIN, Continuation
from meow_lightning.types import AnswerRow

Budgeted = Sequence[tuple[AnswerRow, int]]  # a row, and how many tokens its text was let have


def numbers(rows: list[AnswerRow]) -> dict[str, float]:
    """Every number that the rows hold: those of the report, and the scores of two membership attacks."""
    values = dict(evaluate({"target": rows}, {}, truth_ratio_mean="geometric").values["target"])
    truths = [row.truth for row in rows if row.set == "forget"]
    for k in SHARES:
        values[f"forget/min_k_{k}"] = fmean(min_k_score(each.logps, k=k) for each in truths)
        plus = [min_k_plus_plus_score(each.logps, each.mean, each.std, k=k) for each in truths]
        values[f"forget/min_k_plus_plus_{k}"] = fmean(plus)
    return values


def held_against(model: Any, codec: PromptEncoder, mine: Budgeted, plain: Budgeted) -> tuple[int, int, float]:
    """(texts that differ, ties, the largest relative difference of a number that the other way has).

    Args:
        model: What both asked.
        codec: Its prompts and tokens.
        mine: One way's rows.
        plain: The other's, in the same order.
    """
    differ = ties = 0
    ours: list[AnswerRow] = []
    theirs: list[AnswerRow] = []
    for (row, budget), (other, its_budget) in zip(mine, plain, strict=True):
        one, two = (cut(each, min(budget, its_budget), codec) for each in (row, other))
        prompt = codec.prompt_ids(two.question)
        if tuple(one.generated) != tuple(two.generated) or one.stop != two.stop:
            tie = close(model, prompt + parting(one.generated, two.generated))
            ties, differ = ties + tie, differ + (not tie)
            one = replace(one, generated=two.generated, text=two.text, stop=two.stop) if tie else one
        for place, (hit, its_hit) in enumerate(zip(one.truth.hits, two.truth.hits, strict=False)):
            if hit != its_hit and close(model, [*prompt, *two.truth.ids[:place]]):
                ties += 1
                one = replace(one, truth=replace(one.truth, hits=settled(one.truth.hits, place, its_hit)))
        ours.append(one)
        theirs.append(two)
    found, known = numbers(ours), numbers(theirs)
    return differ, ties, max(abs(found[name] - value) / (abs(value) or 1.0) for name, value in known.items())


def settled(hits: Sequence[int], place: int, hit: int) -> list[int]:
    """The hits with another one at a place."""
    return [*hits[:place], hit, *hits[place + 1 :]]


def cut(row: AnswerRow, budget: int, codec: PromptEncoder) -> AnswerRow:
    """The row as if a smaller budget had been given."""
    end = codec.end_id if row.stop == "end" else None
    said = Continuation(tuple(row.generated), end).within(budget)
    if len(said.ids) == len(row.generated) and said.stop == row.stop:
        return row
    return replace(row, generated=said.ids, text=codec.decode_answer(said.ids), stop=said.stop)


def parting(mine: Sequence[int], other: Sequence[int]) -> list[int]:
    """What two texts have in common before they part."""
    pairs = enumerate(zip((*mine, -1), (*other, -1), strict=False))
    return list(other[: next((place for place, (one, two) in pairs if one != two), len(other))])


def close(model: Any, ids: Sequence[int]) -> bool:
    """Whether the two best logits after some tokens lie so near that rounding may have decided."""
    with torch.inference_mode():
        two = model(input_ids=torch.tensor([list(ids)]), logits_to_keep=1).logits[0, -1].topk(2).values
    return float(two[0] - two[1]) <= MARGIN
