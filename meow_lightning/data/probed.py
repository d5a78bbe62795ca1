"""Datasets whose splits depend on what a model answers: their interface, and the file of the model's answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from meow_lightning.data.examples import Dataset
from meow_lightning.data.subset import LimitedDataset
from meow_lightning.store.jsonl import read_lines
from meow_lightning.types import Fact

Fate = Literal["forget", "keep", "unknown"]


@dataclass(frozen=True, slots=True)
class ProbedAnswer:
    """A model's answer to one question, before anything is trained.

    Attributes:
        fact: ``Fact.id``.
        start: The first tokens of the greedy answer, as many as the probe counts.
        text: The whole greedy answer.
        option: Place of the most likely text, by length-normalised likelihood: 0 for the true answer, from 1 for
            ``Fact.perturbed``; ``None`` if they were not scored.
    """

    fact: str
    start: str
    text: str
    option: int | None


class ProbeSettings(NamedTuple):
    """How a model is asked.

    Attributes:
        answer_tokens: Tokens of ``ProbedAnswer.start``, 1 or more.
        max_new_tokens: Tokens of ``ProbedAnswer.text``, at least ``answer_tokens``.
        options: Whether the true answer and the wrong ones are scored.
    """

    answer_tokens: int
    max_new_tokens: int
    options: bool


class Overview(NamedTuple):
    """One question of a probe, with the model's answer and what happens to the fact."""

    question: str
    answer: str
    text: str
    fate: Fate


class ProbedDataset(ABC):
    """A dataset that asks the target model its questions before it defines its splits.

    Its constructor takes ``probed``, the file of the model's answers; with ``None`` (not asked yet) every question
    counts as known, so its splits are upper bounds, from which a run can be planned.

    Attributes:
        name: Name of the dataset.
    """

    name: ClassVar[str]

    @abstractmethod
    def questions(self) -> Sequence[Fact]:
        """Return all questions, in the order of the file."""

    @abstractmethod
    def probe_settings(self) -> ProbeSettings:
        """Return how the model is asked."""

    @abstractmethod
    def overview(self) -> list[Overview]:
        """List every question with the model's answer; empty before the model was asked."""


def is_probed(component: Any) -> bool:
    """Whether a component is a class of datasets whose splits depend on a model.

    Args:
        component: What implements a dataset: a class, or a function.
    """
    return isinstance(component, type) and issubclass(component, ProbedDataset)


def read_answers(path: Path) -> dict[str, ProbedAnswer]:
    """Read a model's answers, by fact.

    Args:
        path: JSON lines, as the stage ``probe`` writes them.
    """
    return {row["fact"]: ProbedAnswer(**row) for row in read_lines(path)}


def probed_dataset(dataset: Dataset) -> ProbedDataset | None:
    """Return a dataset, before it was cut to ``limit``, if its splits depend on a model; else ``None``."""
    whole = dataset.dataset if isinstance(dataset, LimitedDataset) else dataset
    return whole if isinstance(whole, ProbedDataset) else None
