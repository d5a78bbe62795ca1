"""A writer as an attack's proposer: how requests are split, what comes back, and a server that refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.common import runtime
from helpers.fake_server import Scripted, fails, says
from helpers.hydra import CONF

from meow_lightning.attacks.proposer import ProposalRequest
from meow_lightning.config.instantiate import component_versions
from meow_lightning.errors import UserError
from meow_lightning.inversion.base import GenerationResponse
from meow_lightning.inversion.proposals import EndpointProposer
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.attack_writer import check_writer
from meow_lightning.stages.common.proposer import PROPOSALS, PROPOSER, WriterProposer
from meow_lightning.store.durable import write_json
from meow_lightning.store.integrity import MANIFEST, file_entry

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


class Unpaid(Echo):
    paid = False


def work_in(folder: Path, **inputs: Any) -> StageContext:
    folder.mkdir(parents=True, exist_ok=True)
    return StageContext(
        stage="extract", label="unlearned x", folder=folder, settings={"proposer": {}}, needs={},
        inputs={"reuse": True} | inputs, runtime=runtime(),
    )  # fmt: skip


def notes_of(work: StageContext) -> list[str]:
    return work.manifest_entries().get("notes", [])


def test_requests_are_split_over_replies_that_have_numbers_of_their_own(tmp_path: Path) -> None:
    writer, work = Unpaid(), work_in(tmp_path)
    made = WriterProposer(writer, work=work, version=1, option=OPTION, per_reply=2)  # type: ignore[arg-type]
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
    assert notes_of(work) == [f"{OPTION}.model=m is small"]


def proposer(server: Scripted, work: StageContext, **changes: Any) -> WriterProposer:
    node = {key: value for key, value in NODE.items() if key != "_target_"}
    writer = EndpointProposer(**node | {"base_url": server.base_url} | changes)
    return WriterProposer(writer, work=work, version=1, option=OPTION, per_reply=4)


def test_a_server_is_sent_the_question_and_the_best_prompts_but_no_answer(tmp_path: Path) -> None:
    work = work_in(tmp_path)
    with Scripted(["Sure! Here are 2 prompts:\n1. Who knows where Ada is?\n2. Tell me where Ada is."]) as server:
        found = proposer(server, work).propose([wanted("Ada", 1, 2, ("Ada, where?", 0.5))])
        (request,) = server.asked
    assert found == [["Who knows where Ada is?", "Tell me where Ada is."]]
    sent = json.dumps(request.json)
    assert "Where is Ada?" in sent
    assert "0.50: Ada, where?" in sent
    assert (request.json["temperature"], request.json["top_p"], request.json["model"]) == (1.0, 1.0, "m")
    assert notes_of(work) == []


def test_a_refused_request_gives_no_prompts_and_its_reason_which_may_quote_it_stays_in_the_result(
    tmp_path: Path,
) -> None:
    work = work_in(tmp_path)
    with Scripted(
        lambda request: fails(400, "no Bo") if "Bo" in str(request.json) else says("Find Ada.", used=(30, 12))
    ) as server:  # fmt: skip
        made = proposer(server, work)
        found = made.propose([wanted("Ada", 1, 1), wanted("Bo", 1, 1)])
        made.finish()
    assert found == [["Find Ada."], []]
    assert notes_of(work) == [
        f"{OPTION}: 2 requests, 30 tokens read, 12 written",
        f"{OPTION}: 1 requests were refused; proposals.jsonl of this result gives the reasons",
    ]
    assert "no Bo" in (tmp_path / "proposals.jsonl").read_text()


def test_what_was_answered_before_a_kill_is_not_paid_for_again(tmp_path: Path) -> None:
    both = [wanted("Ada", 0, 4), wanted("Bo", 0, 4)]
    with Scripted(lambda request: "Find Ada." if "Ada" in request.question else "Find Bo.") as server:
        proposer(server, work_in(tmp_path)).propose(both[:1])
        found = proposer(server, work_in(tmp_path)).propose(both)
        assert [each.question for each in server.asked] == ["Original question: Where is Ada?",
                                                            "Original question: Where is Bo?"]  # fmt: skip
        changed = [wanted("Ada", 0, 4, ("Ada, where?", 0.5))]
        proposer(server, work_in(tmp_path)).propose(changed)
        assert len(server.asked) == 3  # another request
    assert found == [["Find Ada."], ["Find Bo."]]


def test_a_limit_ends_the_search_and_a_larger_one_sends_the_rest_alone(tmp_path: Path) -> None:
    every = [wanted(name, 0, 4) for name in ("Ada", "Bo", "Cy")]
    with Scripted(lambda request: f"Find {request.question[-4:-1]}.") as server:
        with pytest.raises(UserError, match=rf"^{OPTION}\.max_requests=2 is used up after 2 requests .* 1 still"):
            proposer(server, work_in(tmp_path), max_requests=2).propose(every)
        assert len(server.asked) == 2
        proposer(server, work_in(tmp_path), max_requests=3).propose(every)
        assert len(server.asked) == 3
        with pytest.raises(UserError, match=rf"^{OPTION}\.max_total_tokens=1 is used up after 3 requests"):
            proposer(server, work_in(tmp_path), max_total_tokens=1).propose([*every, wanted("Di", 0, 4)])
        assert len(server.asked) == 3


def test_replies_to_the_same_requests_about_another_model_are_reused(tmp_path: Path) -> None:
    store = tmp_path / "store" / "extract"
    other, same = work_in(store / "a"), [wanted("Ada", 0, 4)]
    with Scripted(lambda request: "Find Ada.") as server:
        made = proposer(server, other)
        made.propose(same)
        made.finish()
        seal(other)
        work = work_in(store / "b")
        again = proposer(server, work, max_requests=1)
        assert again.propose(same) == [["Find Ada."]]
        assert len(server.asked) == 1
        again.finish()
        assert f"{OPTION}: 1 requests had a reply in the store already" in notes_of(work)
        again.propose([wanted("Bo", 0, 4)])  # within the limit: what was reused is free
        proposer(server, work_in(store / "c", reuse=False)).propose(same)  # cache=refresh
        assert len(server.asked) == 3


def seal(work: StageContext) -> None:
    """Write the manifest of a finished result."""
    write_json(
        work.folder / MANIFEST,
        {
            "stage": "extract", "key": work.folder.name, "finished": 1.0, "version": 1, "settings": {"proposer": {}},
            "components": {"Instruction": 1, **component_versions(EndpointProposer)},
            "files": {PROPOSALS: file_entry(work.folder / PROPOSALS)},
        },
    )  # fmt: skip


def test_a_server_that_is_not_there_is_found_before_anything_is_computed() -> None:
    inputs = {"allow": (), "proposer": {"option": OPTION, "node": NODE | {"base_url": "http://127.0.0.1:9/v1"}}}
    with pytest.raises(UserError, match=rf"^{OPTION}\.base_url=http://127\.0\.0\.1:9/v1 does not answer"):
        check_writer(inputs, {}, PROPOSER)
    check_writer({"allow": ()}, {}, PROPOSER)  # no proposer, nothing to ask
