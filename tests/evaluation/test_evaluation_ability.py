"""Definitions of tasks, stored results, and ability numbers among the others of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.ability import (
    AbilityNumber,
    AbilityResult,
    Unmeasured,
    check_definition,
    harness_version,
    with_ability,
)
from meow_lightning.types import Definition, Results

OTHERS = Results(
    definitions=(
        Definition("model_utility", "model_utility.1", "share", "higher", "Utility.", "model utility", 50, main=True),
    ),
    values={"target": {"model_utility": 0.5}, "retain": {}, "unlearned": {"model_utility": 0.4}},
    missing={"retain": {"model_utility": "not measured: there is no retain model"}},
)
TASK: dict[str, Any] = {
    "data": {"test": {"questions": "q.jsonl"}}, "output_type": "multiple_choice", "test_split": "test",
}  # fmt: skip


def result(value: float, stderr: float | None = 0.1) -> AbilityResult:
    number = AbilityNumber(task="quiz", metric="acc", value=value, stderr=stderr, direction="higher")
    return AbilityResult(task="quiz", harness="0.4.13", questions=8, num_fewshot=2, numbers=(number,))


@pytest.mark.parametrize(
    ("changes", "option", "suggested"),
    [
        ({"doc_to_txt": "x"}, "ability.local.quiz.doc_to_txt", "doc_to_text"),
        ({"dataset_path": "owner/name"}, "ability.local.quiz.dataset_path", ""),
        ({"output_type": None}, "ability.local.quiz.output_type", ""),
        ({"data": None}, "ability.local.quiz.data", ""),
        ({"test_split": None}, "ability.local.quiz.test_split", ""),
        ({"data": {"test": "q.jsonl"}}, "ability.local.quiz.data.test", ""),
    ],
)
def test_a_definition_that_cannot_be_names_its_key(changes: dict[str, Any], option: str, suggested: str) -> None:
    check_definition("quiz", TASK)
    with pytest.raises(UserError) as caught:
        check_definition("quiz", TASK | changes)
    assert str(caught.value).startswith(option)
    assert suggested in str(caught.value)


def test_without_the_harness_there_is_a_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meow_lightning.evaluation.ability.PACKAGE", "lm_eval_that_is_not_installed")
    with pytest.raises(UserError, match=r"pip install 'meow-lightning\[ability\]'"):
        harness_version()


def test_a_stored_result_reads_back_equal(tmp_path: Path) -> None:
    result(0.25, None).write(tmp_path)
    assert AbilityResult.read(tmp_path) == result(0.25, None)


def test_numbers_stand_beside_the_others_with_their_errors_and_definitions() -> None:
    found = with_ability(
        OTHERS, {"target": [result(0.75)], "unlearned": [result(0.5)]}, unmeasured=(),
        absent={"retain": "there is no retain model"},
    )  # fmt: skip
    assert found.values["target"] == {"model_utility": 0.5, "ability/quiz/acc": 0.75, "ability/quiz/acc_stderr": 0.1}
    assert found.values["unlearned"]["ability/quiz/acc"] == 0.5
    assert found.missing["retain"]["ability/quiz/acc"] == "not measured: there is no retain model"
    names = [known.name for known in found.definitions]
    assert names == ["model_utility", "ability/quiz/acc", "ability/quiz/acc_stderr"]
    assert "8 questions, 2 solved examples each" in found.definitions[1].text
    json.dumps(found.values, allow_nan=False)


def test_an_error_that_the_harness_does_not_give_has_a_reason() -> None:
    found = with_ability(OTHERS, {"target": [result(1.0, None)]}, unmeasured=(), absent={})
    assert "ability/quiz/acc_stderr" not in found.values["target"]
    assert "no standard error" in found.missing["target"]["ability/quiz/acc_stderr"]
    assert "was not given these questions" in found.missing["unlearned"]["ability/quiz/acc"]


def test_a_task_without_questions_is_missing_for_every_role_with_the_reason() -> None:
    unmeasured = Unmeasured(task="quiz", metrics=("acc",), reason="there is no q.jsonl")
    found = with_ability(OTHERS, {}, unmeasured=[unmeasured], absent={})
    for role in OTHERS.values:
        assert found.missing[role]["ability/quiz/acc"] == "not measured: there is no q.jsonl"
        assert found.values[role] == OTHERS.values[role]


def test_without_tasks_the_numbers_are_the_same_object() -> None:
    assert with_ability(OTHERS, {}, unmeasured=(), absent={}) is OTHERS


def test_a_number_that_is_missing_and_its_own_definition_survive_storage(tmp_path: Path) -> None:
    numbers = (
        AbilityNumber(
            task="nlg", metric="mauve", value=None, stderr=None, direction="higher", text="MAUVE, so.", unit="share",
            reason="no features",
        ),
        AbilityNumber(
            task="nlg", metric="rep3", value=0.25, stderr=None, direction="lower", text="Rep-3, so.", reason="one text"
        ),
    )  # fmt: skip
    stored = AbilityResult(task="nlg", harness="", questions=2, num_fewshot=None, numbers=numbers)
    stored.write(tmp_path)
    assert AbilityResult.read(tmp_path) == stored
    assert stored.values() == {"ability/nlg/rep3": 0.25}
    assert stored.missing() == {
        "ability/nlg/mauve": "not measured: no features", "ability/nlg/mauve_stderr": "not measured: no features",
        "ability/nlg/rep3_stderr": "not measured: one text",
    }  # fmt: skip
    mauve, _, rep3, _ = stored.definitions()
    assert (mauve.text, mauve.unit, rep3.text, rep3.direction) == ("MAUVE, so.", "share", "Rep-3, so.", "lower")


def test_fields_that_the_harness_does_not_set_are_not_stored(tmp_path: Path) -> None:
    result(0.5).write(tmp_path)
    (number,) = json.loads((tmp_path / "ability.json").read_text())["numbers"]
    assert number.keys() == {"task", "metric", "value", "stderr", "direction"}
    assert Unmeasured(task="quiz", metrics=("acc",), reason="no file").stored().keys() == {"task", "metrics", "reason"}


def test_an_unmeasured_number_has_the_direction_of_its_task() -> None:
    unmeasured = Unmeasured(task="nlg", metrics=("bleu", "perplexity"), reason="no file", lower=("perplexity",))
    found = {each.name: each.direction for each in unmeasured.definitions()}
    assert (found["ability/nlg/bleu"], found["ability/nlg/perplexity"]) == ("higher", "lower")
    assert Unmeasured(**unmeasured.stored()) == unmeasured
    own = Unmeasured(task="nlg", metrics=("bleu",), reason="no file", own=True)
    assert Unmeasured(**own.stored()) == own
    assert all("(of this project)" in each.text for each in own.definitions())
