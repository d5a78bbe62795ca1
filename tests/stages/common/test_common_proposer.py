"""A writer as an attack's proposer: how requests are split, what comes back, and a server that refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from helpers.fake_server import Scripted, fails
from helpers.hydra import CONF

from meow_lightning.attacks.proposer import ProposalRequest
from meow_lightning.errors import UserError
from meow_lightning.inversion.base import GenerationResponse
from meow_lightning.inversion.proposals import EndpointProposer
from meow_lightning.stages.common.proposer import WriterProposer, check_proposer

OPTION = "attacks.instruction.proposer"
NODE: dict[str, Any] = {
    key: value
    for key, value in yaml.safe_load((CONF / "proposer" / "endpoint.yaml").read_text()).items()
    if key not in ("defaults", "name", "per_reply")
}
NODE |= {"model": "m", "key_env": None, "seed": 0, "retries": 0}
NODE["prompt"] = yaml.safe_load((CONF / "proposer" / "prompt" / "reword.yaml").read_text())


def wanted(fact: str, number: int, count: int, *tried: tuple[str, float]) -> ProposalRequest:
    return ProposalRequest(fact=fact, question=f"Where is {fact}?", round=number, count=count, tried=tried)


class Echo:
    """A writer that answers in reverse order with the number of its request, and remembers all."""

    def __init__(self) -> None:
        self.asked = []

    def write(self, requests, *, load_facts, should_continue):
        self.asked += requests
        for each in reversed(requests):
            text = f"Find {each.fact.id} {each.attempt}.\nSeek {each.fact.id} {each.attempt}."
            yield GenerationResponse(fact=each.fact.id, attempt=each.attempt, text=text)

    def notes(self) -> tuple[str, ...]:
        return ("inversion.model=m is small",)


def test_requests_are_split_over_replies_that_have_numbers_of_their_own() -> None:
    writer, notes = Echo(), []
    made = WriterProposer(writer, option=OPTION, per_reply=2, warn=notes.append)  # type: ignore[arg-type]
    found = made.propose([wanted("Ada", 1, 3, ("Who is\n Ada?", 0.7999)), wanted("Bo", 1, 2)])
    assert [(each.fact.id, each.count, each.fact.answer, each.previous_answers) for each in writer.asked] == [
        ("Ada", 2, "", ("0.80: Who is Ada?",)), ("Ada", 1, "", ("0.80: Who is Ada?",)), ("Bo", 2, "", ()),
    ]  # fmt: skip
    first, second, other = (each.attempt for each in writer.asked)
    assert first != second
    assert found == [
        [f"{verb} Ada {number}." for number in (first, second) for verb in ("Find", "Seek")],
        [f"{verb} Bo {other}." for verb in ("Find", "Seek")],
    ]
    earlier = {each.attempt for each in writer.asked}
    made.propose([wanted("Ada", 0, 3), wanted("Ada", 2, 3)])
    assert not earlier & {each.attempt for each in writer.asked[3:]}  # so that each has a seed of its own
    assert {*notes} == {f"{OPTION}.model=m is small"}


def proposer(server: Scripted, notes: list[str]) -> WriterProposer:
    node = {key: value for key, value in NODE.items() if key != "_target_"}
    writer = EndpointProposer(**node | {"base_url": server.base_url})
    return WriterProposer(writer, option=OPTION, per_reply=4, warn=notes.append)


def test_a_server_is_sent_the_question_and_the_best_prompts_but_no_answer() -> None:
    notes: list[str] = []
    with Scripted(["Sure! Here are 2 prompts:\n1. Who knows where Ada is?\n2. Tell me where Ada is."]) as server:
        found = proposer(server, notes).propose([wanted("Ada", 1, 2, ("Ada, where?", 0.5))])
        (request,) = server.asked
    assert found == [["Who knows where Ada is?", "Tell me where Ada is."]]
    sent = json.dumps(request.json)
    assert "Where is Ada?" in sent
    assert "0.50: Ada, where?" in sent
    assert (request.json["temperature"], request.json["top_p"], request.json["model"]) == (1.0, 1.0, "m")
    assert notes == []


def test_a_refused_request_gives_no_prompts_and_is_noted() -> None:
    notes: list[str] = []
    with Scripted(lambda request: fails(400, "too long") if "Bo" in str(request.json) else "Find Ada.") as server:
        found = proposer(server, notes).propose([wanted("Ada", 1, 1), wanted("Bo", 1, 1)])
    assert found == [["Find Ada."], []]
    assert len(notes) == 1
    assert notes[0].startswith(f"{OPTION}: rules replace the prompts of a refused request")
    assert "too long" in notes[0]


def test_a_server_that_is_not_there_is_found_before_anything_is_computed() -> None:
    inputs = {"allow": (), "proposer": {"option": OPTION, "node": NODE | {"base_url": "http://127.0.0.1:9/v1"}}}
    with pytest.raises(UserError, match=rf"^{OPTION}\.base_url=http://127\.0\.0\.1:9/v1 does not answer"):
        check_proposer(inputs, {})
    check_proposer({"allow": ()}, {})  # no proposer, nothing to ask
