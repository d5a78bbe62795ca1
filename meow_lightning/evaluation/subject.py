"""What a number of a run describes: one of its models, possibly after an attack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from meow_lightning.types import ROLES, Role

T = TypeVar("T")


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """What a number of a run describes: one of its models, possibly after an attack.

    Its text, ``unlearned`` or ``unlearned@relearn``, is the key of its numbers in :class:`Results`.

    Attributes:
        role: Role of the model.
        condition: Name of the attack; empty for the model itself.
    """

    role: Role
    condition: str = ""

    def __str__(self) -> str:
        return f"{self.role}@{self.condition}" if self.condition else self.role

    @classmethod
    def parse(cls, text: str) -> Subject:
        """Read the text of a subject.

        Raises:
            ValueError: It names no role.
        """
        role, _, condition = text.partition("@")
        if role not in ROLES:
            raise ValueError(f"{text} names none of the roles {', '.join(ROLES)}")
        return cls(role, condition)


def under_condition(values: Mapping[str, T], condition: str) -> dict[str, T]:
    """Select what belongs to the models after one attack, by role.

    Args:
        values: Anything by the text of a :class:`Subject`.
        condition: Name of the attack; empty for the models themselves.
    """
    subjects = {text: Subject.parse(text) for text in values}
    return {subjects[text].role: each for text, each in values.items() if subjects[text].condition == condition}
