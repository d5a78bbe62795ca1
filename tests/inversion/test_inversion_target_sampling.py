"""Alternative answers that the target model makes up itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.chat_model import teacher

from meow_lightning.errors import UserError
from meow_lightning.generation.batch_size import AdaptiveBatchSize
from meow_lightning.inversion.base import DatasetFacts, GenerationRequest, GenerationResponse
from meow_lightning.inversion.target_sampling import TargetSampling
from meow_lightning.types import Fact

INSTRUCTION = "Question: {question}\nAnswer: {answer}\nWrite another.\n"
LEAD_IN = "Other:"
PLACES = {"Mira": ("Lima", "Oslo"), "Otto": ("Lund", "Rome. Question: Who?"), "Karl": ("Lyon", "Bonn")}
FACTS = [
    Fact(id=name, question=f"Where was {name} born?", answer=f"{name} was born in {true}.")
    for name, (true, _) in PLACES.items()
]
FORMAT = {"template": "auto", "answer_prefix": "", "system": None, "date": None}


def asked(fact: Fact) -> str:
    return f"Question: {fact.question}\nAnswer: {fact.answer}\nWrite another."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pairs = [
        ([{"role": "user", "content": asked(fact)}], f"{LEAD_IN} {fact.id} was born in {PLACES[fact.id][1]}.")
        for fact in FACTS
    ]
    return teacher(tmp_path_factory.mktemp("target"), pairs=pairs)


def writer(folder: Path, *, slots: int = 8, **changes: Any) -> TargetSampling:
    options: dict[str, Any] = {
        "prompt_format": FORMAT, "instruction": INSTRUCTION, "lead_in": LEAD_IN, "stop": ["Question:"], "screen": False,
        "dtype": "float32", "attention": "sdpa", "candidates": 2, "temperature": 0.01, "top_p": 1.0,
        "max_new_tokens": 48, "seed": 1, "folder": folder, "device": "cpu",
        "adaptive_batch_size": lambda *_, **__: AdaptiveBatchSize(slots, note=pytest.fail),
    }  # fmt: skip
    return TargetSampling(**{**options, **changes})


def ask(fact: Fact, *, attempt: int = 0, previous: tuple[str, ...] = ()) -> GenerationRequest:
    return GenerationRequest(fact=fact, attempt=attempt, count=None, previous_answers=previous, model_answer=None)


def written(writer: TargetSampling, requests: Sequence[GenerationRequest]) -> dict[str, GenerationResponse]:
    def no_facts() -> DatasetFacts:
        raise AssertionError("read the others")

    replies = list(writer.write(requests, load_facts=no_facts, should_continue=lambda: True))
    assert len({each.fact for each in replies}) == len(replies)
    return {each.fact: each for each in replies}


def test_the_answers_are_what_the_model_continues_up_to_a_text_that_ends_them(folder: Path) -> None:
    found = written(writer(folder), [ask(fact) for fact in FACTS])
    assert {name: each.answers for name, each in found.items()} == {
        "Mira": ("Mira was born in Oslo.",) * 2, "Otto": ("Otto was born in Rome.",) * 2,
        "Karl": ("Karl was born in Bonn.",) * 2,
    }  # fmt: skip
    assert all(each.prompt_tokens > each.completion_tokens > 0 for each in found.values())


def test_an_answer_that_the_budget_ends_is_dropped(folder: Path) -> None:
    found = written(writer(folder, max_new_tokens=2), [ask(FACTS[0])])["Mira"]
    assert (found.answers, [reason for reason, _ in found.rejected]) == ((), ["unfinished"] * 2)


def test_the_true_fact_is_screened_where_that_is_set(folder: Path) -> None:
    fact = Fact(id="Otto", question=FACTS[1].question, answer=FACTS[1].answer, value="Lund")
    known = writer(folder)
    truth = [*known._codec.answer_ids("It was in Lund that he was born."), next(iter(known._codec.end_ids))]
    assert known._screened(truth, fact) == ("It was in Lund that he was born.", None)
    assert writer(folder, screen=True)._screened(truth, fact)[1] == "true"


def test_a_prompt_that_fills_the_context_is_refused(folder: Path) -> None:
    full = writer(folder)
    full._codec.context = 8
    found = written(full, [ask(FACTS[0])])["Mira"]
    assert found.refused == "the prompt leaves no room for an answer in the model's context of 8"


def test_an_answer_does_not_depend_on_what_is_sampled_beside_it(folder: Path) -> None:
    hot = {"temperature": 2.0, "max_new_tokens": 12}
    requests = [ask(fact) for fact in FACTS]
    together = written(writer(folder, **hot), requests)
    assert written(writer(folder, slots=1, **hot), requests) == together
    assert written(writer(folder, **hot), requests[2:]) == {"Karl": together["Karl"]}


def test_another_attempt_round_or_seed_draws_anew(folder: Path) -> None:
    hot = {"temperature": 3.0, "candidates": 8, "max_new_tokens": 12}
    draws = [
        written(writer(folder, seed=seed, **hot), [ask(FACTS[0], attempt=attempt, previous=previous)])["Mira"]
        for seed, attempt, previous in ((1, 0, ()), (1, 1, ()), (1, 0, ("Mira was born in Rome.",)), (2, 0, ()))
    ]
    assert len({(each.answers, each.rejected) for each in draws}) == 4


def test_braces_of_a_fact_are_text(folder: Path) -> None:
    odd = Fact(id="odd", question="What is {answer}?", answer="A placeholder.")
    target = writer(folder)
    job = target._jobs(ask(odd))[0]
    plain = target._codec.decode(job.ids, keep_special=False)
    assert "Question: What is {answer}?" in plain


def test_no_request_loads_no_model(tmp_path: Path) -> None:
    assert written(writer(tmp_path / "nowhere"), []) == {}
    with pytest.raises(UserError, match=r"^inversion=target, the target model: the folder .* does not exist"):
        written(writer(tmp_path / "nowhere"), [ask(FACTS[0])])


@pytest.mark.parametrize("word", ["{question}", "{answer}"])
def test_an_instruction_without_a_placeholder_is_refused(folder: Path, word: str) -> None:
    with pytest.raises(UserError, match=r"^inversion\.instruction must contain \{"):
        writer(folder, instruction=INSTRUCTION.replace(word, ""))
