"""Hints: the nearest facts, none of which gives the answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.planted import People, born

from meow_lightning.attacks.in_context import InContext
from meow_lightning.errors import UserError
from meow_lightning.types import Fact

ADA = born("Ada Brook", "Lima")
JOB = Fact("job", "What was the job of Ada Brook?", "A nurse.", value="nurse")
SEA = Fact("sea", "How deep is the sea?", "Very.")


def asked(attack: InContext, rows: list[Fact]) -> list[str]:
    return [way.question for way in attack.transform_example(ADA, rows)]


def test_the_nearest_facts_stand_before_the_question_the_nearest_last() -> None:
    rows = [JOB, Fact("bo", "Where is Bo Reed?", "In Oslo."), SEA, ADA]
    assert asked(InContext(data="forget", examples=1), rows) == [
        "What was the job of Ada Brook?\nA nurse.\n\nWhere was Ada Brook born?"
    ]
    (both,) = asked(InContext(data="forget", examples=5), rows)
    assert both.split("\n\n") == [
        "Where is Bo Reed?\nIn Oslo.", "What was the job of Ada Brook?\nA nurse.", ADA.question,
    ]  # fmt: skip


def test_a_hint_repeats_neither_the_fact_nor_its_value() -> None:
    attack = InContext(data="forget", examples=3)
    same = [replace(ADA, id="b"), replace(ADA, id="c", question="Was Ada Brook born?"), replace(JOB, answer="In Lima.")]
    assert asked(attack, [*same, SEA]) == []
    assert asked(attack, [*same, JOB]) == asked(attack, [JOB])


def test_the_hints_come_from_the_split() -> None:
    for split in ("forget", "retain"):
        assert InContext(data=split, examples=1).rows(People(), 0) == [*People().facts(split)]  # type: ignore[arg-type]


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match=r"attacks\.data=retian .* Did you mean retain\?"):
        InContext(data="retian", examples=1)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"attacks\.examples=0"):
        InContext(data="retain", examples=0)
