"""Prompts under an attack: what a stage that runs a model asks in the place of each example."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from meow_lightning.attacks.base import PromptAttack
from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.examples import Dataset, Example, is_passage
from meow_lightning.stages.results.translate import TranslateResult

PROMPT_ATTACK = "prompt_attack"  # the model setting of a stage that runs under such an attack


TRANSLATIONS = "translations"  # need of a stage that runs under an attack whose questions a language model writes
WRITTEN = "written"  # setting of such an attack


def prompt_transform(
    settings: Mapping[str, Any], inputs: Mapping[str, Any], dataset: Dataset, *, translations: Path | None
) -> Callable[[Example], Sequence[Example]]:
    """Return the function that lists the ways in which an example is asked; the example alone without an attack.

    Args:
        settings: Settings of the stage.
        inputs: Its inputs.
        dataset: The run's dataset.
        translations: Folder of the questions that a language model wrote; ``None`` for an attack without one, and while
            the run is planned, where each of them stands for itself.
    """
    chosen = settings["model"].get(PROMPT_ATTACK)
    if chosen is None:
        return lambda example: [example]
    attack: PromptAttack = instantiate(chosen["attack"], allow=inputs["allow"])
    if WRITTEN not in chosen:
        rows = attack.rows(dataset, chosen["seed"])
    elif translations is None:
        rows = attack.written_rows(dataset, planned_texts(dataset, chosen[WRITTEN]))
    else:
        rows = attack.written_rows(dataset, TranslateResult.read(translations).usable)
    return lambda example: attack.transform_example(example, rows)


def planned_texts(dataset: Dataset, written: Mapping[str, Any]) -> dict[str, list[str]]:
    """Stand in for questions that are not written yet: about as long as the questions themselves.

    Args:
        dataset: The run's dataset.
        written: Which ``questions`` are written, and the ``languages``.
    """
    return {
        each.id: [f"{each.question} {language}" for language in written["languages"]]
        for each in translated_questions(dataset, written)
    }


def translated_questions(dataset: Dataset, settings: Mapping[str, Any]) -> list[Example]:
    """List the questions that are translated, each once: those to forget, or those of every evaluation set too.

    Args:
        dataset: The dataset of the run.
        settings: Settings with ``questions``: ``forget`` or ``all``.
    """
    evaluated = dataset.evaluation().values() if settings["questions"] == "all" else ()
    every = [*dataset.facts("forget"), *(each for facts in evaluated for each in facts)]
    return [*{each.id: each for each in every if not is_passage(each)}.values()]
