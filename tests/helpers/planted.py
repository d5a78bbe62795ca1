"""Tiny models with planted knowledge: trained until they give certain answers to certain prompts, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from meow_lightning.attacks.base import PromptAttack
from meow_lightning.data.examples import Example
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.evaluation.most_leaking import most_leaking
from meow_lightning.evaluation.predict import predict
from meow_lightning.models.tiny import llama, tokenizer_from
from meow_lightning.types import AnswerRow, Fact

PROMPT = "Question: {question}\nAnswer:"
STEPS = 400  # at most; a dozen rows need about a hundred


def born(name: str, place: str, *others: str) -> Fact:
    """State where somebody was born, with everything that an attack may need.

    Args:
        name: The subject.
        place: The value.
        *others: Wrong values.
    """
    return Fact(
        id=name, question=f"Where was {name} born?", answer=f"{name} was born in {place}.", value=place,
        paraphrase=f"The birthplace of {name} is {place}.", rewordings=(f"What is the birthplace of {name}?",),
        perturbed=tuple(f"The birthplace of {name} is {other}." for other in others),
    )  # fmt: skip


class People:
    """A dataset of people's birthplaces, four to forget, of two families, and three to keep."""

    name = "people"
    public = True
    forget = (
        born("Ada Brook", "Lima", "Bern", "Rome"), born("Bo Brook", "Oslo", "Kiev", "Riga"),
        born("Cy Hill", "Cairo", "Quito", "Delhi"), born("Di Hill", "Paris", "Bern", "Rome"),
    )  # fmt: skip
    retain = (born("Ed Lake", "Tokyo"), born("Flo Lake", "Seoul"), born("Gus Moor", "Accra"))

    def facts(self, split: str) -> Sequence[Fact]:
        """Return the facts to forget or to retain."""
        return self.forget if split == "forget" else self.retain


class Taught(NamedTuple):
    """A trained model with its prompt encoder."""

    model: Any
    codec: PromptEncoder

    def answers(self, examples: Sequence[Example]) -> list[AnswerRow]:
        """Answer examples as the stage ``predict`` does."""
        questions = [("forget", place, example) for place, example in enumerate(examples)]
        return list(
            predict(
                self.model, self.codec, questions, max_new_tokens=16, batch=8, slots=8, gradients=(), progress=None
            )
        )  # fmt: skip

    def under(self, attack: PromptAttack, rows: Sequence[Example], facts: Sequence[Example]) -> list[AnswerRow]:
        """Answer facts under an attack: of several ways to ask, the answer that leaks most."""
        found = []
        for fact in facts:
            answers = self.answers(attack.transform_example(fact, rows))
            found.append(answers[most_leaking(answers)])
        return found


def taught(pairs: Sequence[tuple[str, str]]) -> Taught:
    """Train a two-layer Llama from scratch until it gives every answer.

    Args:
        pairs: Questions, as they stand in the prompt, with the answers to give.
    """
    torch.manual_seed(0)
    tokenizer = tokenizer_from([f"{PROMPT.format(question=asked)} {answer}" for asked, answer in pairs], vocab_size=512)
    codec = PromptEncoder(
        tokenizer=tokenizer, template=PROMPT, answer_prefix=" ", system=None, date=None, context=512,
        end_ids=frozenset(),
    )  # fmt: skip
    model = llama(
        vocab_size=len(tokenizer), hidden_size=64, layers=2, heads=4, intermediate_size=128, context=512,
        end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id,
    ).train()  # fmt: skip
    rows = [codec.encode(*pair) for pair in pairs]
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([[*row.ids, *[codec.pad_id] * (longest - len(row.ids))] for row in rows])
    labels = torch.tensor([
        [-100] * row.prompt + [*row.ids[row.prompt :]] + [-100] * (longest - len(row.ids)) for row in rows
    ])  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(STEPS):
        loss = model(input_ids=ids, labels=labels).loss
        if loss < 0.01:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Taught(model.eval(), codec)
