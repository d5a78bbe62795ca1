"""Our models as language models of lm-evaluation-harness, held against its own class for Hugging Face folders."""

from __future__ import annotations

import copy
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.quiz import CHOICE, QUESTIONS, quiz, write_quiz
from lm_eval.evaluator import evaluate, simple_evaluate
from lm_eval.models.huggingface import HFLM

from meow_lightning.errors import UserError
from meow_lightning.evaluation import harness
from meow_lightning.evaluation.harness import EncodedModel, HarnessTask, answer, blocks, characters
from meow_lightning.models.load import load_codec, load_model, save_model

TASKS = {
    "choice": CHOICE,
    "words": CHOICE | {"doc_to_text": "{{sol1}} ", "description": "A quiz.\n\n"},
    "nothing before": CHOICE | {"doc_to_text": "", "target_delimiter": ""},
    "solved examples": CHOICE | {"num_fewshot": 2, "fewshot_split": "test"},
    "rolling": {
        "output_type": "loglikelihood_rolling", "test_split": "test", "doc_to_text": "", "doc_to_target": "{{goal}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}], "metadata": {"version": 1.0},
    },
    "generated": {
        "output_type": "generate_until", "test_split": "test", "doc_to_text": "{{goal}}", "doc_to_target": "{{sol1}}",
        "generation_kwargs": {"until": ["e"], "max_gen_toks": 5},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def folder(_weights, tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    model = copy.deepcopy(_weights)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8)  # its answers differ from prompt to prompt
    save_model(model, tokenizer, place, end_ids=frozenset({tokenizer.eos_token_id}))
    write_quiz(place, long="She wrote 12 books about the sea. " * 12)  # longer than the context of 64 tokens
    return place


@pytest.fixture(scope="module")
def ours(folder: Path) -> EncodedModel:
    model = load_model(folder, dtype="float32", attention="sdpa").eval()
    encoder = load_codec(folder, prompt={"template": "auto", "answer_prefix": " "}, model=model)
    return EncodedModel(model, encoder, generation_batch_size=4)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> HFLM:
    return HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=1)


def task(folder: Path, kind: str = "choice", *, limit: int | None = None, shots: int | None = None) -> HarnessTask:
    return HarnessTask("quiz", config=TASKS[kind], local=quiz(folder), num_fewshot=shots, limit=limit)


def flat(answers: Any) -> list[float]:
    return [float(value) for each in answers for value in (each if isinstance(each, tuple) else (each,))]


@pytest.mark.parametrize("kind", TASKS)
def test_every_answer_is_that_of_the_harness_on_the_models_folder(folder: Path, ours, theirs, kind: str) -> None:
    requests = [request for question in task(folder, kind).questions() for request in question]
    assert len(requests) in (QUESTIONS, 2 * QUESTIONS)
    assert {request.request_type for request in requests} <= {
        "loglikelihood", "loglikelihood_rolling", "generate_until",
    }  # fmt: skip
    own, expected = answer(ours, requests), answer(theirs, requests)
    if kind == "generated":
        assert own == expected
        assert len(set(own)) > 1
    else:
        assert flat(own) == pytest.approx(flat(expected), abs=2e-4)


def test_the_metrics_are_those_of_the_harness_on_the_models_folder(folder: Path, theirs, ours) -> None:
    """simple_evaluate with the harness's own model class, the same task and the same questions."""
    made, limit = task(folder, limit=10), 10
    inner = made._loaded["tasks"]["quiz"]
    expected: Any = simple_evaluate(model=theirs, tasks=[inner], limit=limit, log_samples=False)
    numbers = {number.metric: number for number in made.result(_answers(ours, made)).numbers}
    row = expected["results"]["quiz"]
    for metric in ("acc", "acc_norm"):
        assert numbers[metric].value == row[f"{metric},none"]
        assert numbers[metric].stderr == row[f"{metric}_stderr,none"]
        assert numbers[metric].direction == "higher"
    assert 0 < numbers["acc"].value < 1


def _answers(model: EncodedModel, made: HarnessTask) -> list[list[Any]]:
    return [answer(model, question) for question in made.questions()]


def test_our_model_is_a_model_of_the_harness(folder: Path, ours) -> None:
    made = task(folder)
    found: Any = evaluate(ours, made._loaded, log_samples=False)
    own = {number.metric: number.value for number in made.result(_answers(ours, made)).numbers}
    assert {name: found["results"]["quiz"][f"{name},none"] for name in own} == own


def test_solved_examples_are_the_same_whenever_the_requests_are_built(folder: Path) -> None:
    made = task(folder, "solved examples")
    first, second = ([each.args for question in made.questions() for each in question] for _ in range(2))
    assert first == second
    assert first[0][0].count("Question:") == 3
    more = task(folder, "solved examples", shots=3).questions()
    assert more[0][0].args[0].count("Question:") == 4


def test_a_task_that_fixes_no_examples_keeps_none(folder: Path) -> None:
    fixed = HarnessTask("quiz", config=CHOICE | {"num_fewshot": 0}, local=quiz(folder), num_fewshot=3, limit=2)
    assert fixed.questions()[0][0].args[0].count("Question:") == 1


def test_blocks_hold_consecutive_things_and_depend_on_their_sizes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "BLOCK", 10)
    assert blocks([4, 5, 2, 30, 1]) == [[0, 1], [2], [3], [4]]
    assert blocks([]) == []


def test_a_prompt_counts_once_for_all_its_answers(folder: Path) -> None:
    question = task(folder).questions()[0]
    prompt, texts = question[0].args[0], [request.args[1] for request in question]
    assert characters(question) == len(prompt) + sum(map(len, texts))


def test_answers_do_not_depend_on_what_else_is_asked(folder: Path, ours, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "BLOCK", 1)
    requests = [request for question in task(folder).questions() for request in question]
    assert answer(ours, requests) == [
        each for at in range(0, len(requests), 2) for each in answer(ours, requests[at : at + 2])
    ]


def test_sampled_answers_and_budgets_beyond_the_context_are_refused(folder: Path, ours) -> None:
    for settings, words in (({"do_sample": True, "temperature": 1.0}, "samples"), ({"max_gen_toks": 64}, "64 tokens")):
        config = TASKS["generated"] | {"generation_kwargs": {"until": ["e"], **settings}}
        made = HarnessTask("quiz", config=config, local=quiz(folder), num_fewshot=None, limit=1)
        with pytest.raises(UserError, match=words):
            answer(ours, made.questions()[0])


def test_a_definition_that_the_harness_refuses_is_one_line(folder: Path) -> None:
    with pytest.raises(UserError, match=r"ability\.local\.quiz is not a task") as caught:
        HarnessTask(
            "quiz", config=CHOICE | {"doc_to_target": "{{no_column}}"}, local=quiz(folder), num_fewshot=None, limit=1
        )
    assert "\n" not in str(caught.value)


def test_a_name_that_the_harness_does_not_know_gets_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    class Manager:
        all_tasks = ("hellaswag", "mmlu")

    monkeypatch.setattr(harness, "_manager", Manager)
    with pytest.raises(UserError, match="Did you mean hellaswag"):
        HarnessTask("helaswag", config=None, local=None, num_fewshot=None, limit=None)


def test_questions_that_cannot_be_fetched_are_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Manager:
        all_tasks = ("mmlu",)

        def load(self, names: list[str]) -> None:
            raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(harness, "_manager", Manager)
    with pytest.raises(UserError, match=r"mmlu cannot be loaded .no route to the hub.; is there a network"):
        HarnessTask("mmlu", config=None, local=None, num_fewshot=None, limit=None)
