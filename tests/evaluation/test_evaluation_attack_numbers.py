"""Numbers that attacks measure about models: stored, and beside the other numbers of a run."""

from __future__ import annotations

from pathlib import Path

from meow_lightning.evaluation.attack_numbers import (
    AttackNumber,
    is_about_model,
    read_numbers,
    with_attack_numbers,
    write_numbers,
)
from meow_lightning.evaluation.subject import Subject
from meow_lightning.types import Definition, Results

SIZE = Definition(
    name="model/parameters", id="parameters.1", unit="", direction="lower", text="Size.", label="parameters", order=1,
    main=False,
)  # fmt: skip
OTHER = Definition(
    name="memo/answers", id="memo.1", unit="", direction="lower", text="", label="MEMO", order=2, main=True
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    numbers = [AttackNumber(SIZE, 10.0, 7.0)]
    write_numbers(numbers, tmp_path)
    assert read_numbers(tmp_path) == numbers


def test_values_before_an_attack_are_the_models_own_and_those_after_it_its_subjects() -> None:
    values = {"target": {"memo/answers": 0.5}, "unlearned": {}, "retain": {}, "target@a": {}, "target@b": {}}
    results = Results((OTHER,), values, {})
    measured = {
        Subject("target", "a"): [AttackNumber(SIZE, 10.0, 7.0)],
        Subject("target", "b"): [AttackNumber(SIZE, 11.0, 5.0)],
    }
    joined = with_attack_numbers(results, measured)
    assert joined.definitions == (OTHER, SIZE)
    assert joined.values == {
        **values, "target": {"memo/answers": 0.5, "model/parameters": 10.0}, "target@a": {"model/parameters": 7.0},
        "target@b": {"model/parameters": 5.0},
    }  # fmt: skip
    assert results.values["target"] == {"memo/answers": 0.5}
    assert with_attack_numbers(results, {}) == results
    assert [is_about_model(each.name) for each in joined.definitions] == [False, True]
