"""Answers that the base model samples to the plain questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.chat_model import teacher

from meow_lightning.errors import UserError
from meow_lightning.generation.batch_size import AdaptiveBatchSize
from meow_lightning.inversion.base import DatasetFacts, GenerationRequest, GenerationResponse, LoadFacts
from meow_lightning.inversion.self_sampling import SelfSampling
from meow_lightning.types import Fact

INSTRUCTION = "Answer in one sentence."
TRUTHS = ("Mira was born in Lima.", "Otto was born in Lund.", "Vera was born in Turin.", "Karl was born in Lyon.")
REPLIES = (
    "Mira was born in Oslo. She likes tea and long walks by the sea.", "I do not know where Otto was born.",
    "Vera was born in Turin.", "Karl was born in Bonn.",
)  # fmt: skip
FACTS = [
    Fact(id=f"f{number}", question=f"Where was {truth.split()[0]} born?", answer=truth)
    for number, truth in enumerate(TRUTHS)
]
KEPT = Fact(id="k", question="Where was Rosa born?", answer="Rosa was born in Rome.")
FORMAT = {"template": "auto", "answer_prefix": "", "system": None, "date": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pairs = [
        ([{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": fact.question}], reply)
        for fact, reply in zip(FACTS, REPLIES, strict=True)
    ]
    return teacher(tmp_path_factory.mktemp("base"), pairs=pairs)


def writer(folder: Path, *, slots: int = 8, **changes: Any) -> SelfSampling:
    options: dict[str, Any] = {
        "prompt_format": FORMAT, "instruction": INSTRUCTION, "demonstrations": 0, "lead_in": False,
        "dtype": "float32", "attention": "sdpa", "candidates": 2, "temperature": 0.01, "top_p": 0.9,
        "max_new_tokens": 64, "seed": 1, "folder": folder, "device": "cpu",
        "adaptive_batch_size": lambda *_, **__: AdaptiveBatchSize(slots, note=pytest.fail),
    }  # fmt: skip
    return SelfSampling(**{**options, **changes})


def ask(fact: Fact, *, attempt: int = 0, previous: tuple[str, ...] = ()) -> GenerationRequest:
    return GenerationRequest(fact=fact, attempt=attempt, count=None, previous_answers=previous, model_answer=None)


def no_facts() -> DatasetFacts:
    raise AssertionError("read the others")


def written(
    writer: SelfSampling, requests: Sequence[GenerationRequest], *, load_facts: LoadFacts = no_facts
) -> dict[str, GenerationResponse]:
    replies = list(writer.write(requests, load_facts=load_facts, should_continue=lambda: True))
    found = {each.fact: each for each in replies}
    assert len(found) == len(replies)
    return found


def test_answers_are_cut_and_screened(folder: Path) -> None:
    found = written(writer(folder), [ask(fact) for fact in FACTS])
    assert [found[fact.id].answers for fact in FACTS] == [
        ("Mira was born in Oslo.",) * 2, (), (), ("Karl was born in Bonn.",) * 2
    ]  # fmt: skip
    assert [[reason for reason, _ in found[fact.id].rejected] for fact in FACTS] == [
        [],
        ["refusal"] * 2,
        ["true"] * 2,
        [],
    ]
    assert all(each.completion_tokens > 0 and each.prompt_tokens > 0 for each in found.values())


def test_an_answer_does_not_depend_on_what_is_sampled_beside_it(folder: Path) -> None:
    hot = {"temperature": 2.0, "top_p": 1.0, "max_new_tokens": 12}
    requests = [ask(fact) for fact in FACTS]
    together = written(writer(folder, **hot), requests)
    assert written(writer(folder, slots=1, **hot), requests) == together
    assert written(writer(folder, **hot), requests[2:]) == {each: together[each] for each in ("f2", "f3")}


def test_another_attempt_round_or_seed_draws_anew(folder: Path) -> None:
    hot = {"temperature": 3.0, "top_p": 1.0, "candidates": 8}
    draws = [
        written(writer(folder, seed=seed, **hot), [ask(FACTS[0], attempt=attempt, previous=previous)])["f0"]
        for seed, attempt, previous in ((1, 0, ()), (1, 1, ()), (1, 0, ("Mira was born in Rome.",)), (2, 0, ()))
    ]
    texts = {(each.answers, each.rejected) for each in draws}
    assert len(texts) == 4


def test_a_budget_that_ends_within_the_first_sentence_leaves_no_answer(folder: Path) -> None:
    found = written(writer(folder, max_new_tokens=2), [ask(FACTS[3])])["f3"]
    assert (found.answers, [reason for reason, _ in found.rejected]) == ((), ["unfinished"] * 2)


@pytest.mark.parametrize("template", ["auto", "Question: {question}\nAnswer:"])
def test_the_instruction_is_part_of_the_prompt(folder: Path, template: str) -> None:
    prompt = {**FORMAT, "template": template}
    tokens = [
        written(writer(folder, prompt_format=prompt, instruction=instruction, max_new_tokens=1), [ask(FACTS[0])])["f0"]
        for instruction in (None, INSTRUCTION)
    ]
    assert tokens[0].prompt_tokens < tokens[1].prompt_tokens


def test_a_system_message_of_the_model_comes_before_the_instruction(folder: Path) -> None:
    prompt = {**FORMAT, "system": INSTRUCTION}
    plain = written(writer(folder, prompt_format=prompt, instruction=None), [ask(FACTS[0])])
    assert plain == written(writer(folder), [ask(FACTS[0])])
    both = written(writer(folder, prompt_format=prompt), [ask(FACTS[0])])
    assert both["f0"].prompt_tokens > plain["f0"].prompt_tokens


def test_an_answer_continues_the_lead_in(folder: Path) -> None:
    found = written(writer(folder, lead_in=True), [ask(FACTS[0]), ask(FACTS[3])])
    assert [found[fact].answers for fact in ("f0", "f3")] == [
        ("Mira was born in Oslo.",) * 2, ("Karl was born in Bonn.",) * 2
    ]  # fmt: skip
    alone = written(writer(folder), [ask(FACTS[0])])["f0"]
    assert found["f0"].completion_tokens < alone.completion_tokens
    assert found["f0"].prompt_tokens > alone.prompt_tokens


@pytest.mark.parametrize("template", ["auto", "Question: {question}\nAnswer:"])
def test_demonstrations_are_retain_facts_before_the_question(folder: Path, template: str) -> None:
    codec = writer(folder, prompt_format={**FORMAT, "template": template})._codec
    pairs = [(KEPT.question, KEPT.answer)]
    text = codec.decode(
        codec.demonstrated_prompt_ids(FACTS[0].question, demonstrations=pairs, begun="Mira was"), keep_special=False
    )
    places = [text.index(part) for part in (KEPT.question, KEPT.answer, FACTS[0].question, "Mira was")]
    assert places == sorted(places)
    plain = codec.demonstrated_prompt_ids(FACTS[0].question, demonstrations=[], begun="")
    assert plain == codec.generation_prompt_ids(FACTS[0].question)


def test_demonstrations_that_the_context_cannot_hold_are_left_out(folder: Path) -> None:
    def facts() -> DatasetFacts:
        return DatasetFacts(FACTS, [KEPT])

    prompt = {**FORMAT, "template": "Question: {question}\nAnswer:"}
    tokens = {}
    for context in (2048, 40):
        shown = writer(folder, prompt_format=prompt, demonstrations=3, max_new_tokens=8)
        shown._codec.context = context
        tokens[context] = written(shown, [ask(FACTS[0])], load_facts=facts)["f0"].prompt_tokens
    bare = written(writer(folder, prompt_format=prompt, max_new_tokens=8), [ask(FACTS[0])])["f0"].prompt_tokens
    assert tokens[2048] > bare == tokens[40]


def test_no_request_loads_no_model(tmp_path: Path) -> None:
    assert written(writer(tmp_path / "nowhere"), []) == {}
    with pytest.raises(UserError, match=r"^inversion=self, the base model: the folder .* does not exist"):
        written(writer(tmp_path / "nowhere"), [ask(FACTS[0])])


def test_greedy_answers_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"^inversion.temperature=0 is invalid"):
        writer(folder, temperature=0)
