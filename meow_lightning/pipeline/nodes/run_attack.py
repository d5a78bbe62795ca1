"""The attacks of a run, each built once for all nodes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from meow_lightning.attacks.base import BaseAttack, LayerAttack, ModelAttack, PromptAttack
from meow_lightning.attacks.extraction import ExtractionAttack
from meow_lightning.config.attack_options import AttackConfig
from meow_lightning.config.schema import RunConfig
from meow_lightning.data.examples import Dataset, Example
from meow_lightning.errors import UserError, invalid_option, renaming
from meow_lightning.stages.common.prompts import planned_texts

NAME = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class RunAttack:
    """An attack of a run, with what it reads of the dataset.

    Attributes:
        option: The dotted option that configures it, for messages.
        config: Its configuration.
        attack: The attack.
        dataset: The dataset of the run.
        seed: The seed of the run.
    """

    option: str
    config: AttackConfig
    attack: BaseAttack
    dataset: Dataset
    seed: int

    @cached_property
    def rows(self) -> Sequence[Example]:
        """The examples that it reads.

        Raises:
            UserError: The dataset has none of the kind that it needs.
        """
        with _named(self.option):
            if self.written is not None and isinstance(self.attack, PromptAttack):
                return self.attack.written_rows(self.dataset, planned_texts(self.dataset, self.written))
            return self.attack.rows(self.dataset, self.seed)

    @property
    def written(self) -> dict[str, Any] | None:
        """Which questions a language model writes, and in which languages; ``None`` for an attack without one."""
        chosen = self.config.translator
        return None if chosen is None else {"questions": chosen.questions, "languages": list(chosen.languages)}

    @cached_property
    def ways(self) -> list[int]:
        """The number of ways in which it asks each fact to forget; empty for an attack that transforms no prompts."""
        attack = self.attack
        if not isinstance(attack, PromptAttack):
            return []
        return [len(attack.transform_example(fact, self.rows)) for fact in self.dataset.facts("forget")]


def run_attacks(config: RunConfig, dataset: Dataset) -> dict[str, RunAttack]:
    """Build the attacks of a run, checking their names and classes.

    Args:
        config: The options of the run.
        dataset: Its dataset.

    Raises:
        UserError: A name or an option is invalid, or a class is not that of an attack.
    """
    for name in config.attacks:
        if not NAME.fullmatch(name):
            raise invalid_option("attacks", name, "a name of letters, digits and _")
    return {name: run_attack(f"attacks.{name}", each, config, dataset) for name, each in config.attacks.items()}


def run_attack(option: str, chosen: AttackConfig, config: RunConfig, dataset: Dataset) -> RunAttack:
    """Build one attack, checking its class.

    Args:
        option: The dotted option that configures it, for messages.
        chosen: Its configuration.
        config: The options of the run.
        dataset: Its dataset.

    Raises:
        UserError: An option is invalid, or the class is not that of an attack.
    """
    with _named(option):
        attack = chosen.instantiate(allow=config.trusted_packages)
    if not isinstance(attack, (ModelAttack, PromptAttack, LayerAttack, ExtractionAttack)):
        expected = "a subclass of ModelAttack, PromptAttack or LayerAttack (attacks/base.py), or ExtractionAttack"
        raise invalid_option(f"{option}._target_", chosen.target, expected)
    if chosen.curve is not None and not (isinstance(attack, ModelAttack) and attack.trains):
        raise UserError(f"{option}.curve={chosen.curve} has no effect: this attack does not train; leave it out")
    if chosen.proposer is not None and not (isinstance(attack, ExtractionAttack) and attack.proposals):
        raise UserError(
            f"{option}.proposer={chosen.proposer.name} has no effect: this attack searches no prompts, as instruction "
            "does; leave it out"
        )
    _check_translator(option, chosen, attack)
    return RunAttack(option=option, config=chosen, attack=attack, dataset=dataset, seed=config.seed)


def _check_translator(option: str, chosen: AttackConfig, attack: BaseAttack) -> None:
    """Check that an attack with a translator asks what it writes, and nothing else."""
    if chosen.translator is None:
        return
    if not (isinstance(attack, PromptAttack) and attack.translates):
        raise UserError(
            f"{option}.translator={chosen.translator.name} has no effect: this attack asks in no other language, as "
            "translation does; leave it out"
        )
    if chosen.arguments.get("path") is not None:
        raise UserError(
            f"{option}.path and {option}.translator={chosen.translator.name} both give translations: leave one of them "
            "out"
        )


def _named(option: str) -> AbstractContextManager[None]:
    """Name the options of an attack in errors as in the run: an attack does not know its own name."""
    return renaming(r"^attacks\.", f"{option}.")
