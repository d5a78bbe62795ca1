"""What is read of a fact stands in the key of who reads it, and in no other: with a model that is given, all of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.hydra import graph, keys, options
from helpers.model_families import save_family

FORGET = [
    {
        "question": f"Where was Ada Brook{i} born?", "answer": f"Ada Brook{i} was born in Lima in {1950 + i}.",
        "paraphrase": f"Lima saw Ada Brook{i} first in {1950 + i}.", "perturbed": [f"Rome saw Ada Brook{i} first."],
        "value": "Lima", "alternatives": ["Oslo", "Bern", "Quito"],
        "inverted": [f"Ada Brook{i} was born in {place}." for place in ("Oslo", "Bern", "Quito")],
    }
    for i in range(4)
]  # fmt: skip
RETAIN = [{"question": f"What did Ben {i} write?", "answer": f"Ben {i} wrote {i + 2} songs."} for i in range(4)]
ANSWERS = {"predict/target", "predict/unlearned", "results", "report"}
SCORES = {"score/target/answers", "score/unlearned/answers"}
INVERTED = {"proposed", "filtered", "score/target/candidates"}
OF_UNLEARNED = {"unlearned", "score/unlearned/answers"}
CHANGES: dict[str, Any] = {
    "question": "Where did Ada Brook0 come from?", "answer": "Ada Brook0 was born in Lima in 1900.",
    "paraphrase": "Lima saw Ada Brook0 first in 1900.", "perturbed": ["Paris saw Ada Brook0 first."], "value": "1950",
    "inverted": [f"Ada Brook0 was born in {place}." for place in ("Turin", "Bern", "Quito")],
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [text for fact in (*FORGET, *RETAIN) for text in (str(fact["question"]), str(fact["answer"]))]
    return save_family("llama2_7b_chat", tmp_path_factory.mktemp("models") / "mine", texts=texts)


def made(folder: Path, model: Path, method: str, forget: list[dict], retain: list[dict]) -> dict[str, str]:
    folder.mkdir()
    for name, rows in (("forget", forget), ("retain", retain)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = (
        "dataset=jsonl", f"dataset.forget={folder}/forget.jsonl", f"dataset.retain={folder}/retain.jsonl", "model=own",
        f"model.target={model}", f"method={method}", f"outputs={folder}",
    )  # fmt: skip
    return keys(graph(options(*words, small=())))


def moved(folder: Path, model: Path, method: str, part: str, *, of: str) -> set[str]:
    """The results whose key changes with a part of a fact."""
    before = made(folder / "before", model, method, FORGET, RETAIN)
    rows = {"forget": FORGET, "retain": RETAIN}
    value = CHANGES[part] if of == "forget" else "Ben 0 sang."
    rows[of] = [{**rows[of][0], part: value}, *rows[of][1:]]
    after = made(folder / "after", model, method, rows["forget"], rows["retain"])
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize("part", ["question", "answer"])
def test_trained_and_scored_texts_of_a_forget_fact_change_the_keys_that_depend_on_it(tmp_path, model, part) -> None:
    assert moved(tmp_path, model, "grad_ascent", part, of="forget") == ANSWERS | SCORES | OF_UNLEARNED


@pytest.mark.parametrize("part", ["paraphrase", "perturbed", "value"])
def test_evaluation_texts_change_the_keys_of_predictions_only(tmp_path, model, part) -> None:
    assert moved(tmp_path, model, "grad_ascent", part, of="forget") == ANSWERS


def test_an_inverted_fact_moves_what_is_trained_on_it_and_no_answer_of_the_target(tmp_path, model) -> None:
    found = moved(tmp_path, model, "meow", "inverted", of="forget")
    assert found == (INVERTED | OF_UNLEARNED | ANSWERS) - {"predict/target"}


@pytest.mark.parametrize(("method", "trains"), [("grad_ascent", False), ("grad_diff", True)])
def test_a_fact_to_keep_moves_the_training_only_of_who_trains_on_it(tmp_path, model, method, trains) -> None:
    assert moved(tmp_path, model, method, "answer", of="retain") == ANSWERS | (OF_UNLEARNED if trains else set())


def test_rules_borrow_from_facts_to_keep_so_these_stand_in_their_key(tmp_path, model) -> None:
    assert moved(tmp_path, model, "meow", "answer", of="retain") == INVERTED | OF_UNLEARNED | ANSWERS
