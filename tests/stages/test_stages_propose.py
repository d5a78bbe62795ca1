from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import fake_writer
from helpers.common import runtime
from helpers.damages import every_damage, harm
from helpers.results import store_answers, store_inverted, store_requests, store_scores

from meow_lightning.config.instantiate import component_versions, instantiate
from meow_lightning.data.encoding import fingerprint
from meow_lightning.errors import UserError
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common import reply_log
from meow_lightning.stages.propose import Propose
from meow_lightning.stages.results.propose import ProposeResult
from meow_lightning.store.durable import write_json
from meow_lightning.store.integrity import file_entry
from meow_lightning.store.jsonl import read_json
from meow_lightning.types import InvertedFact

RUNTIME = runtime(micro_batch_size=1, eval_batch_size=1, generation_batch_size=1)
DATASET: dict[str, Any] = {
    "_target_": "meow_lightning.data.fictional.Fictional", "split": "forget01", "authors": 5, "candidates": 8,
    "phrasings": 1, "retain_eval": 4, "seed": 0,
}  # fmt: skip
FACTS = instantiate(DATASET, allow=[]).facts("forget")
IDS = [fact.id for fact in FACTS]
GOOD = {fact.id: list(fact.inverted) for fact in FACTS}


def work(
    folder: Path,
    *,
    max_retries_per_fact: int = 0,
    needs: dict[str, Path] | None = None,
    loop: Any = None,
    **writer: Any,
) -> StageContext:
    node = {
        "_target_": "helpers.fake_writer.Scripted",
        "folder": str(folder),
        "breaks": None,
        "max_requests": None,
        "max_total_tokens": None,
    }
    inputs = {
        "dataset": DATASET, "content": fingerprint(instantiate(DATASET, allow=[])), "limit": None,
        "allow": ["helpers"], "inversion": node | writer, "runs_locally": False, "reuse": True,
    }  # fmt: skip
    settings = {"inversion": {}, "max_retries_per_fact": max_retries_per_fact, "rounds": loop, "count": 2}
    (folder / "propose").mkdir(exist_ok=True)
    return StageContext(
        stage="propose", label="", folder=folder / "propose", settings=settings, inputs=inputs, needs=needs or {},
        runtime=RUNTIME,
    )  # fmt: skip


def replies(folder: Path, said: dict[str, str]) -> None:
    (folder / "replies.json").write_text(json.dumps(said))


def questions(folder: Path) -> list[dict[str, Any]]:
    path = folder / "asked.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def everything(attempt: int = 0) -> dict[str, str]:
    return {f"{fact}/{attempt}": "\n".join(GOOD[fact][:2]) for fact in IDS}


def test_replies_lie_in_the_order_of_the_facts_with_what_they_cost(tmp_path: Path) -> None:
    replies(tmp_path, everything())
    Propose().run(work(tmp_path))
    found = ProposeResult.read(tmp_path / "propose").replies
    assert [reply.fact for reply in found] == IDS
    assert found[0].text == "\n".join(GOOD[IDS[0]][:2])
    told = read_json(tmp_path / "propose" / "asked.json")
    assert (told["facts"], told["calls"], told["calls_so_far"], told["requests"]) == (8, 8, 8, 8)
    assert (told["prompt_tokens"], told["completion_tokens"], told["still_memorized"]) == (56, 24, [])


def test_facts_with_too_few_candidates_are_requested_again_a_bounded_number_of_times(tmp_path: Path) -> None:
    first, second, third = IDS[:3]
    said = everything()
    said |= {f"{first}/0": GOOD[first][0], f"{first}/1": f"{GOOD[first][0]}\n{GOOD[first][3]}"}  # one lacks, then none
    said |= {f"{second}/0": "I'm sorry, but I can't help.", f"{second}/2": "\n".join(GOOD[second][:3])}
    said |= {f"{third}/{attempt}": FACTS[2].answer for attempt in range(5)}  # the truth, again and again
    replies(tmp_path, said)
    Propose().run(work(tmp_path, max_retries_per_fact=2))
    asked = questions(tmp_path)
    assert [each["name"] for each in asked[8:]] == [
        f"{first}/1",
        f"{second}/1",
        f"{third}/1",
        f"{second}/2",
        f"{third}/2",
    ]
    assert asked[8] == {"name": f"{first}/1", "count": 1, "previous_answers": [GOOD[first][0]], "model_answer": None}
    assert asked[9]["count"] == 2
    assert read_json(tmp_path / "propose" / "asked.json")["calls"] == 13


@pytest.mark.parametrize("runs_locally", [False, True], ids=["server", "model of one's own"])
@pytest.mark.parametrize("breaks", [0, 1, 5, 7])
def test_no_question_that_was_answered_is_put_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: int, runs_locally: bool
) -> None:
    monkeypatch.setattr(fake_writer.Scripted, "runs_locally", runs_locally)
    said = everything() | {f"{IDS[0]}/0": "", f"{IDS[7]}/0": "", f"{IDS[0]}/1": "\n".join(GOOD[IDS[0]][:2])}
    for folder in (tmp_path / "whole", tmp_path / "broken"):
        folder.mkdir()
        replies(folder, said)
    Propose().run(work(tmp_path / "whole", max_retries_per_fact=2))
    with pytest.raises(RuntimeError, match="fell over"):
        Propose().run(work(tmp_path / "broken", max_retries_per_fact=2, breaks=breaks))
    with pytest.raises(RuntimeError, match="fell over"):  # in the second attempt, or earlier still
        Propose().run(work(tmp_path / "broken", max_retries_per_fact=2, breaks=1))
    Propose().run(work(tmp_path / "broken", max_retries_per_fact=2))
    assert sorted(each["name"] for each in questions(tmp_path / "broken")) == sorted(
        each["name"] for each in questions(tmp_path / "whole")
    )
    for name in ("replies.jsonl", "asked.json"):
        assert (tmp_path / "broken" / "propose" / name).read_bytes() == (
            tmp_path / "whole" / "propose" / name
        ).read_bytes()


def test_a_run_killed_after_the_last_reply_sends_no_request(tmp_path: Path) -> None:
    replies(tmp_path, everything())
    Propose().run(work(tmp_path))
    Propose().run(work(tmp_path, breaks=0))
    assert len(questions(tmp_path)) == 8


@every_damage
@pytest.mark.parametrize("file", ["part-0.jsonl", "replies.jsonl", "asked.json"])
def test_damaged_replies_are_queried_for_anew_and_the_others_not(tmp_path: Path, file: str, damage: str) -> None:
    replies(tmp_path, everything())
    Propose().run(work(tmp_path))
    whole = {name: (tmp_path / "propose" / name).read_bytes() for name in ("replies.jsonl", "asked.json")}
    harm(tmp_path / "propose" / file, damage)
    Propose().run(work(tmp_path))
    assert {name: (tmp_path / "propose" / name).read_bytes() for name in whole} == whole
    again = len(questions(tmp_path)) - 8
    assert 0 < again <= 8 if file == "part-0.jsonl" else again == 0
    if damage == "another digit":
        assert again <= 1


def test_the_bound_on_questions_is_an_error_that_loses_nothing(tmp_path: Path) -> None:
    replies(tmp_path, everything())
    expected = (
        r"^inversion.max_requests=3 is used up after 3 requests \(30 tokens\), with 5 still to send; the replies "
        r"are kept: raise the limit and run again to send only the rest$"
    )
    with pytest.raises(UserError, match=expected):
        Propose().run(work(tmp_path, max_requests=3))
    Propose().run(work(tmp_path, max_requests=8))
    assert len(questions(tmp_path)) == 8


def test_the_bound_on_tokens_stops_after_the_reply_that_reaches_it(tmp_path: Path) -> None:
    replies(tmp_path, everything())
    with pytest.raises(
        UserError, match=r"^inversion.max_total_tokens=25 is used up after 3 requests \(30 tokens\), with 5 still"
    ):
        Propose().run(work(tmp_path, max_total_tokens=25))
    with pytest.raises(
        UserError, match=r"^inversion.max_total_tokens=30 is used up after 3 requests \(30 tokens\), with 5 still"
    ):
        Propose().run(work(tmp_path, max_total_tokens=30))
    Propose().run(work(tmp_path, max_total_tokens=80))
    assert len(questions(tmp_path)) == 8


def former(folder: Path, *, kept: int = 16, calls: int = 8) -> dict[str, Path]:
    """What a first round left: two answers per fact, facts 0, 2 and 5 still held, what the model says."""
    folder.mkdir()
    store_inverted(folder, [InvertedFact(fact, i, "", GOOD[fact][i]) for fact in IDS for i in range(2)], kept=kept)
    store_requests(folder, calls=calls, tokens=100)
    scores = dict.fromkeys(IDS, 0.2) | {IDS[0]: 0.7, IDS[2]: 0.9, IDS[5]: 0.51, IDS[6]: 0.5}
    store_scores(folder, [(fact, 0, score) for fact, score in scores.items()])
    said = [("forget", fact, f"now {fact}") for fact in IDS]
    store_answers(folder, [("retain", IDS[0], "of another set"), *said])
    return dict.fromkeys(("previous_filtered", "proposed", "scores", "predictions"), folder)


LOOP = {"memorized_above": 0.5, "requery": "memorized", "max_requests": None}


def test_a_later_round_requests_remaining_facts_with_earlier_answers_and_replies(tmp_path: Path) -> None:
    replies(tmp_path, {f"{fact}/0": "\n".join(GOOD[fact][2:4]) for fact in IDS})
    Propose().run(work(tmp_path, needs=former(tmp_path / "before"), loop=LOOP))
    asked = questions(tmp_path)
    assert [each["name"] for each in asked] == [f"{IDS[2]}/0", f"{IDS[0]}/0", f"{IDS[5]}/0"]  # the most held first
    assert asked[0] == {
        "name": f"{IDS[2]}/0",
        "count": 2,
        "previous_answers": GOOD[IDS[2]][:2],
        "model_answer": f"now {IDS[2]}",
    }
    told = read_json(tmp_path / "propose" / "asked.json")
    assert (told["facts"], told["calls"], told["calls_so_far"], told["tokens_so_far"]) == (3, 3, 11, 130)
    assert told["still_memorized"] == [IDS[2], IDS[0], IDS[5]]
    assert told["memo"] == pytest.approx((0.7 + 0.9 + 0.51 + 0.5 + 4 * 0.2) / 8)
    assert told["worst"] == 0.9


def test_new_answers_that_were_tried_before_are_requested_again(tmp_path: Path) -> None:
    replies(tmp_path, {f"{fact}/0": "\n".join(GOOD[fact][1:3]) for fact in IDS})  # one of the two is known
    Propose().run(work(tmp_path, max_retries_per_fact=1, needs=former(tmp_path / "before"), loop=LOOP))
    assert [each["name"] for each in questions(tmp_path)][3:] == [f"{IDS[2]}/1", f"{IDS[0]}/1", f"{IDS[5]}/1"]
    assert questions(tmp_path)[3]["previous_answers"] == GOOD[IDS[2]][:3]


def test_asking_for_all_asks_about_every_fact_while_one_is_held(tmp_path: Path) -> None:
    replies(tmp_path, {f"{fact}/0": "\n".join(GOOD[fact][2:4]) for fact in IDS})
    Propose().run(work(tmp_path, needs=former(tmp_path / "before"), loop={**LOOP, "requery": "all"}))
    assert len(questions(tmp_path)) == 8
    (tmp_path / "end").mkdir()
    replies(tmp_path / "end", {})
    high = {**LOOP, "requery": "all", "memorized_above": 0.95}
    Propose().run(work(tmp_path / "end", needs=former(tmp_path / "done"), loop=high))
    assert questions(tmp_path / "end") == []
    assert read_json(tmp_path / "end" / "propose" / "asked.json")["facts"] == 0


@pytest.mark.parametrize(("calls", "asked"), [(8, []), (9, [2]), (10, [2, 0]), (12, [2, 0, 5])])
def test_a_budget_goes_to_what_is_held_most(tmp_path: Path, calls: int, asked: list[int]) -> None:
    replies(tmp_path, {})
    Propose().run(work(tmp_path, needs=former(tmp_path / "before"), loop={**LOOP, "max_requests": calls}))
    assert [each["name"] for each in questions(tmp_path)] == [f"{IDS[place]}/0" for place in asked]
    assert read_json(tmp_path / "propose" / "asked.json")["facts"] == len(asked)


def test_the_bounds_hold_over_all_rounds(tmp_path: Path) -> None:
    replies(tmp_path, {})
    needs = former(tmp_path / "before")
    with pytest.raises(
        UserError, match=r"^inversion.max_requests=10 is used up after 10 requests \(120 tokens\), with 1 still"
    ):
        Propose().run(work(tmp_path, needs=needs, loop=LOOP, max_requests=10))
    with pytest.raises(
        UserError, match=r"^inversion.max_total_tokens=120 is used up after 10 requests \(120 tokens\), with 1 still"
    ):
        Propose().run(work(tmp_path, needs=needs, loop=LOOP, max_total_tokens=120))
    Propose().run(work(tmp_path, needs=needs, loop=LOOP, max_requests=11, max_total_tokens=130))
    assert len(questions(tmp_path)) == 3


def seal_as(folder: Path, *, version: int, settings: dict[str, Any]) -> None:
    """Make a folder a stored result."""
    files = {name: file_entry(folder / name) for name in ("replies.jsonl", "asked.json")}
    versions = {"version": version, "components": component_versions(fake_writer.Scripted)}
    told = {"stage": "propose", "key": folder.name, **versions, "settings": settings, "finished": 1.0}
    write_json(folder / "manifest.json", {**told, "files": files})


def test_a_question_that_has_a_reply_in_the_store_is_not_paid_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_writer.Scripted, "paid", True)
    said = everything() | {f"{IDS[3]}/0": ""}
    replies(tmp_path, said)
    other = work(tmp_path, max_retries_per_fact=1)
    Propose().run(other)
    other.folder.rename(tmp_path / "done")
    seal_as(tmp_path / "done", version=Propose.version, settings={"inversion": {}})
    first = len(questions(tmp_path))
    replies(tmp_path, said | {f"{IDS[3]}/2": "\n".join(GOOD[IDS[3]][:2])})
    task = work(tmp_path, max_retries_per_fact=2, max_requests=1)  # one more attempt: another result, one new question
    Propose().run(task)
    assert [each["name"] for each in questions(tmp_path)[first:]] == [f"{IDS[3]}/2"]
    told = read_json(task.folder / "asked.json")
    assert (told["calls"], told["requests"], told["prompt_tokens"]) == (10, 1, 7)
    assert "8 of 8 requests had a reply in the store already" in task.manifest_entries()["notes"]
    monkeypatch.setattr(fake_writer.Scripted, "version", 2, raising=False)  # its replies to the same would differ
    shutil.rmtree(task.folder)
    task.folder.mkdir()
    with pytest.raises(UserError, match=r"^inversion.max_requests=1 is used up after 1 requests"):
        Propose().run(task)
    monkeypatch.undo()
    monkeypatch.setattr(fake_writer.Scripted, "paid", True)
    task.inputs["reuse"] = False  # type: ignore[index]
    shutil.rmtree(task.folder)
    task.folder.mkdir()
    with pytest.raises(UserError, match=r"^inversion.max_requests=1 is used up after 1 requests"):
        Propose().run(task)


def test_another_writers_replies_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_writer.Scripted, "paid", True)
    replies(tmp_path, everything())
    other = work(tmp_path)
    Propose().run(other)
    other.folder.rename(tmp_path / "done")
    for version, settings in ((0, {"inversion": {}}), (1, {"inversion": {"a": 1}})):
        seal_as(tmp_path / "done", version=version, settings=settings)
        shutil.rmtree(tmp_path / "propose", ignore_errors=True)
        Propose().run(work(tmp_path))
    assert len(questions(tmp_path)) == 24


def test_replies_that_are_not_what_was_sealed_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_writer.Scripted, "paid", True)
    replies(tmp_path, everything())
    other = work(tmp_path)
    Propose().run(other)
    other.folder.rename(tmp_path / "done")
    seal_as(tmp_path / "done", version=Propose.version, settings={"inversion": {}})
    Propose().run(work(tmp_path))
    assert len(questions(tmp_path)) == 8
    harm(tmp_path / "done" / "replies.jsonl", "another digit")
    shutil.rmtree(tmp_path / "propose")
    Propose().run(work(tmp_path))
    assert len(questions(tmp_path)) == 16


def test_a_bound_on_tokens_that_are_not_counted_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replies(tmp_path, everything())
    monkeypatch.setattr(reply_log, "row_tokens", lambda row: 0)
    with pytest.raises(
        UserError, match=r"^inversion.max_total_tokens=9 cannot be enforced: the server reports no token usage"
    ):
        Propose().run(work(tmp_path, max_total_tokens=9))


def test_why_a_question_was_refused_stays_with_the_replies(tmp_path: Path) -> None:
    replies(tmp_path, everything() | {f"{IDS[0]}/0": "REFUSED: what was Ada's secret?"})
    task = work(tmp_path)
    Propose().run(task)
    assert task.manifest_entries()["notes"][1:] == [
        "1 requests were refused; replies.jsonl of this result gives the reasons"
    ]
    assert "secret" in (tmp_path / "propose" / "replies.jsonl").read_text()


def test_the_cost_is_reported(tmp_path: Path) -> None:
    replies(tmp_path, everything())
    task = work(tmp_path)
    Propose().run(task)
    assert task.manifest_entries()["notes"] == ["8 requests, 56 tokens read, 24 written"]


def test_a_teacher_that_had_nothing_new_is_not_requested_again(tmp_path: Path) -> None:
    replies(tmp_path, {})
    Propose().run(work(tmp_path, needs=former(tmp_path / "before", kept=0), loop=LOOP))
    assert questions(tmp_path) == []
    assert len(read_json(tmp_path / "propose" / "asked.json")["still_memorized"]) == 3
