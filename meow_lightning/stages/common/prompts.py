"""Prompts under an attack: what a stage that runs a model asks in the place of each example."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from meow_lightning.attacks.base import PromptAttack
from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.examples import Dataset, Example

PROMPT_ATTACK = "prompt_attack"  # the model setting of a stage that runs under such an attack


def prompt_transform(
    settings: Mapping[str, Any], inputs: Mapping[str, Any], dataset: Dataset
) -> Callable[[Example], Sequence[Example]]:
    """Return the function that lists the ways in which an example is asked; the example alone without an attack.

    Args:
        settings: Settings of the stage.
        inputs: Its inputs.
        dataset: The run's dataset.
    """
    chosen = settings["model"].get(PROMPT_ATTACK)
    if chosen is None:
        return lambda example: [example]
    attack: PromptAttack = instantiate(chosen["attack"], allow=inputs["allow"])
    rows = attack.rows(dataset, chosen["seed"])
    return lambda example: attack.transform_example(example, rows)
