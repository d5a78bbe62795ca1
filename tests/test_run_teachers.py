"""The complete job with a language model that writes the inverted facts: in this program, and behind real servers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from helpers.chat_model import teacher
from helpers.fake_server import Behaviour, Request, Scripted, fails, says
from test_run import run, stages, start

from meow_lightning.data.fictional import Fictional
from meow_lightning.inversion.base import GenerationRequest
from meow_lightning.inversion.prompt_template import PromptTemplate
from meow_lightning.store.durable import checked_lines
from meow_lightning.types import Fact

ROOT = Path(__file__).resolve().parent.parent
FAST = ("debug=fast", "limit=6", "logger=none", "trainer.parallel_stages=1")
ASK = (*FAST, "goal=filter", "inversion=endpoint", "inversion.model=m")
LOOP = ("method=meow_loop", "method.rounds.memorized_above=0", "method.rounds.count=3")
PROMPT = PromptTemplate(**yaml.safe_load((ROOT / "conf" / "inversion" / "prompt" / "contradict.yaml").read_text()))


def forget() -> list[Fact]:
    node = yaml.safe_load((ROOT / "conf" / "dataset" / "fictional.yaml").read_text())
    options = {key: value for key, value in node.items() if key not in ("name", "_target_", "seed")}
    return Fictional(**options, seed=0).facts("forget")[:6]


FACTS = forget()


def reply(fact: Fact) -> str:
    """Four good answers as chat models dress them up."""
    lines = [f"{place}. {answer}" for place, answer in enumerate(fact.inverted[:4], start=1)]
    return "\n".join(["Sure! Here are 4 answers that contradict the true one:", "", *lines])


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned what to reply when it is asked about the facts."""
    asks = [GenerationRequest(fact=fact, attempt=0, count=4, previous_answers=(), model_answer=None) for fact in FACTS]
    pairs = [(PROMPT.messages(ask, context=None), reply(ask.fact)) for ask in asks]
    return teacher(tmp_path_factory.mktemp("taught"), pairs=pairs)


def inverted(outputs: Path) -> dict[str, list[str]]:
    (path,) = (outputs / "store" / "filter").glob("*/inverted.jsonl")
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        found.setdefault(row["fact"], []).append(row["answer"])
    return found


def cleaning(outputs: Path) -> dict:
    (path,) = (outputs / "store" / "filter").glob("*/cleaning.json")
    return json.loads(path.read_text())


def test_a_model_of_ones_own_writes_them(taught: Path, tmp_path: Path) -> None:
    words = (*FAST, "inversion=local", f"inversion.model={taught}", "inversion.temperature=0")
    out = run(tmp_path, *words)
    assert (stages(out)["finetune", "teacher"], stages(out)["propose", ""]) == ("linked", "computed")
    assert inverted(tmp_path) == {fact.id: list(fact.inverted[:4]) for fact in FACTS}
    assert set(stages(run(tmp_path, *words, "trainer.generation_batch_size=1")).values()) == {"cached"}


@pytest.mark.ddp
def test_two_processes_write_what_one_writes(taught: Path, tmp_path: Path) -> None:
    words = (*FAST, "goal=filter", "inversion=local", f"inversion.model={taught}", "inversion.max_retries_per_fact=1")
    run(tmp_path / "one", *words)
    run(tmp_path / "two", *words, "trainer=ddp", "trainer.accelerator=cpu", "trainer.generation_batch_size=1")
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one/store").glob("[pf]*/*/*.json*"))
    assert any(path.name == "replies.jsonl" for path in names)
    for name in names:
        if name.name != "manifest.json":
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def served(taught: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a real server: ``transformers serve`` with the taught model."""
    port = free_port()
    words = [str(taught), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with (tmp_path / "serve.log").open("w") as log:
        server = subprocess.Popen(
            [str(Path(sys.executable).parent / "transformers"), "serve", *words], env=environment, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=1).read()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "serve.log").read_text()
                time.sleep(0.1)
        yield f"{address}/v1"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_the_complete_job_against_a_real_server(taught: Path, served: str, tmp_path: Path) -> None:
    words = (*FAST, "inversion=endpoint", f"inversion.model={taught}", "inversion.temperature=0.3")
    out = run(tmp_path, *words, f"inversion.base_url={served}")
    assert set(stages(out).values()) == {"computed"}
    found, counts = inverted(tmp_path), cleaning(tmp_path)
    assert found == {fact.id: list(fact.inverted[:4]) for fact in FACTS}
    assert (counts["written"], counts["kept"]) == (24, 24)
    (report,) = (tmp_path / "reports").glob("*/report.html")
    assert re.search(r"6 requests about 6 facts; 6 requests, [\d,]+ tokens read, [\d,]+ written", report.read_text())
    # A server may move: nothing is asked again.
    again = run(tmp_path, *words, "inversion.base_url=http://127.0.0.1:9/v1", "inversion.concurrency=1")
    assert set(stages(again).values()) == {"cached"}


DIRTY = {  # what comes instead of the good reply, by the place of the fact
    0: fails(500),
    1: says("", finish="stop"),
    2: says("I'm sorry, but I can't help with that."),
    3: says(reply(FACTS[3]), half=True),
    4: fails(429),
    5: says("\n".join([*FACTS[5].inverted[:2], FACTS[5].inverted[2][:-9]]), finish="length"),
}


def test_dirty_and_failing_servers_are_cleaned_up_after(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()

    def script(request: Request) -> Behaviour:
        place = next(place for place, fact in enumerate(FACTS) if fact.question == request.question)
        seen[request.question] += 1
        return DIRTY[place] if seen[request.question] == 1 else says(reply(FACTS[place]))

    with Scripted(script) as server:
        run(tmp_path, *ASK, f"inversion.base_url={server.base_url}")
    # fact 5 brought two of four at first; of the four that then came two are new
    assert inverted(tmp_path) == {fact.id: list(fact.inverted[:4]) for fact in FACTS}
    counts = cleaning(tmp_path)
    dropped = {why: count for why, count in counts["dropped"].items() if count}
    assert dropped == {"blank": 1, "refusal": 1, "unfinished": 1, "duplicate": 2}
    assert set(seen.values()) == {2}


def test_a_killed_job_asks_nothing_twice_that_was_answered(tmp_path: Path) -> None:
    def script(request: Request) -> Behaviour:
        fact = next(fact for fact in FACTS if fact.question == request.question)
        return says(reply(fact), delay=0.2)

    with Scripted(script) as server:
        words = (*ASK, f"inversion.base_url={server.base_url}", "inversion.concurrency=1")
        process = start(tmp_path, *words)
        for _ in range(6000):
            parts = list((tmp_path / "store" / "propose").glob("*.partial/part-*.jsonl"))
            kept = [row["fact"] for path in parts for row in checked_lines(path).rows]
            if len(kept) >= 3:
                break
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        first = [request.question for request in server.asked]
        run(tmp_path, *words)
        asked = Counter(request.question for request in server.asked)
    questions = {fact.id: fact.question for fact in FACTS}
    answered = {questions[fact] for fact in kept}
    assert 3 <= len(answered) < 6
    assert all(asked[question] == 1 for question in answered)
    # What was under way when the job was killed has to be asked again: one question, since one was under way at once.
    assert {question for question, times in asked.items() if times > 1} <= set(first) - answered
    assert sum(asked.values()) <= 7
    assert inverted(tmp_path) == {fact.id: list(fact.inverted[:4]) for fact in FACTS}


def test_an_endpoint_that_does_not_exist_is_reported_before_any_work(tmp_path: Path) -> None:
    words = (*FAST, *ASK[-2:], f"inversion.base_url=http://127.0.0.1:{free_port()}/v1")
    process = start(tmp_path, *words)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.match(r"error: inversion\.base_url=http://127\.0\.0\.1:\d+/v1\b.*\n$", err), err
    assert not list((tmp_path / "store").glob("*/*"))


def test_facts_that_stay_short_are_an_error_a_note_or_the_work_of_rules(tmp_path: Path) -> None:
    def script(request: Request) -> Behaviour:
        place = next(place for place, fact in enumerate(FACTS) if fact.question == request.question)
        return says("" if place == 2 else reply(FACTS[place]))

    with Scripted(script) as server:
        words = (*ASK, f"inversion.base_url={server.base_url}")
        process = start(tmp_path, *words)
        _, err = process.communicate(timeout=300)
        short = f"1 of 6 facts have fewer inverted facts than method.select.k=3 after filtering: {FACTS[2].id} with 0"
        assert process.returncode == 1
        assert err.startswith(f"error: {short} (of 23 written, dropped: 3 blank); set inversion.on_shortage=warn"), err
        asked = len(server.asked)
        assert asked == 5 + 3  # three times for the one that says nothing
        out = run(tmp_path, *words, "inversion.on_shortage=warn")
        assert f"note: {short}; training uses the available ones" in out
        out = run(tmp_path, *words, "inversion.on_shortage=rules")
        assert "1 of 6 facts kept fewer than 3 inverted facts: rules added 3 to the " in out
        assert len(server.asked) == asked  # neither asked anybody


def test_the_loop_tells_the_teacher_what_was_tried(tmp_path: Path) -> None:
    def script(request: Request) -> Behaviour:
        fact = next(fact for fact in FACTS if fact.question == request.question)
        tried = [answer for answer in fact.inverted if answer in request.messages[-1]["content"]]
        return says("\n".join(fact.inverted[len(tried) : len(tried) + 2]))

    with Scripted(script) as server:
        words = (*FAST, *LOOP, "inversion=endpoint", "inversion.model=m", f"inversion.base_url={server.base_url}")
        out = run(tmp_path, *words)
        later = [request for request in server.asked if "These were written already" in request.messages[-1]["content"]]
        assert later
        assert len(server.asked) == 6 + len(later)
        # What the model says now is quoted where it says anything; one that hardly trained repeats blanks.
        asked = len(server.asked)
        found = set(stages(run(tmp_path, *words)).values())
    assert found == {"cached"}
    assert asked == len(server.asked)
    assert re.search(rf"\d rounds?, {asked} requests to the teacher", out)
    (report,) = (tmp_path / "reports").glob("*/rounds.json")
    rounds = json.loads(report.read_text())["rounds"]
    assert sum(each["calls"] for each in rounds) == asked
    assert rounds[1]["trained"] == 6 + rounds[1]["asked"]


def test_a_server_translates_the_questions_of_an_attack_once_for_all_models(tmp_path: Path) -> None:
    def translated(request: Request) -> str:
        question = request.messages[-1]["content"].partition(": ")[2]
        return question if question == FACTS[0].question else f"Et {question}"

    option = "attacks.translation.translator"
    with Scripted(translated) as server:
        words = (
            *FAST, "method=grad_ascent", "attacks=translation", f"translator@{option}=endpoint",
            f"{option}.base_url={server.base_url}", f"{option}.model=m",
        )  # fmt: skip
        out = run(tmp_path, *words)
        assert len(server.asked) == len(FACTS)
        assert stages(out)["translate", "translation"] == "computed"
        assert set(stages(run(tmp_path, *words)).values()) == {"cached"}
    (report,) = (tmp_path / "reports").glob("*/report.html")
    assert f"1 of {len(FACTS)} translations into French are left out, untranslated" in report.read_text()
    asked = [
        [row["question"] for row in checked_rows(folder.parent / "rows.jsonl") if row["set"] == "forget"]
        for folder in (tmp_path / "store" / "predict").glob("*/manifest.json")
        if json.loads(folder.read_text())["label"].endswith("translation")
    ]
    assert asked == [[fact.question for fact in FACTS[1:]]] * 3


def checked_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
