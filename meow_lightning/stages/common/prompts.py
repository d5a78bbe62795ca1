"""Prompts under an attack: what a stage that runs a model asks in the place of each question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from meow_lightning.attacks.base import PromptAttack
from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.examples import Dataset, Example, Passage

PROMPT_ATTACK = "prompt_attack"  # the model setting of a stage that runs under such an attack


def question_transform(
    settings: Mapping[str, Any], inputs: Mapping[str, Any], dataset: Dataset
) -> Callable[[str], str] | None:
    """Return the function that transforms every question; ``None`` without an attack on prompts.

    Args:
        settings: Settings of the stage.
        inputs: Its inputs.
        dataset: The run's dataset.
    """
    chosen = settings["model"].get(PROMPT_ATTACK)
    if chosen is None:
        return None
    attack: PromptAttack = instantiate(chosen["attack"], allow=inputs["allow"])
    rows = attack.rows(dataset, chosen["seed"])
    return lambda question: attack.transform_prompt(question, rows)


def asked(example: Example, ask: Callable[[str], str] | None) -> Example:
    """Return an example as it is asked.

    Args:
        example: The example.
        ask: The function that transforms its question; ``None`` for none.
    """
    if ask is None:
        return example
    question = ask(example.question)
    if isinstance(example, Passage):
        return replace(example, text=question + example.answer, prefix=len(question))
    return replace(example, question=question)
