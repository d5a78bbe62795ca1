from __future__ import annotations

import itertools
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from helpers.fake_server import (
    OPTIONS,
    Behaviour,
    Scripted,
    answering,
    ask,
    asks,
    endpoint,
    fails,
    failure,
    says,
    write,
)

from meow_lightning.errors import UserError
from meow_lightning.inversion.base import GenerationResponse
from meow_lightning.inversion.endpoint import Endpoint


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, and the client's own pauses are short."""
    monkeypatch.delenv("MEOW_TEST_KEY", raising=False)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)


def test_the_file_of_options_is_the_constructor():
    conf = Path(__file__).resolve().parents[2] / "conf" / "inversion" / "endpoint.yaml"
    named = set(yaml.safe_load(conf.read_text(encoding="utf-8")))
    given = {"base_url", *OPTIONS} - {"prompt"}
    assert named - {"defaults", "name", "_target_", "max_retries_per_fact", "on_shortage"} == given
    assert set(Endpoint.unkeyed_options) < given


def test_importing_it_is_light():
    code = (
        "import sys, meow_lightning.inversion.endpoint; sys.exit(bool({'openai', 'httpx2', 'torch'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_question_is_sent_as_it_should_be_and_its_reply_comes_whole():
    with Scripted(["One.\nTwo."]) as server:
        question = ask(7, attempt=1, previous_answers=("Old.",), model_answer="Hm.")
        replies = write(endpoint(server, context="People.", top_p=0.5, max_new_tokens=99), [question])
        assert replies == [
            GenerationResponse(
                fact="f7", attempt=1, text="One.\nTwo.", requests=1, prompt_tokens=30, completion_tokens=12
            )
        ]
        (request,) = server.requests
    user = "About: People.\n\nQuestion: Who is 7?\nTrue answer: It is 7.\n\nWritten: Old.\n\nIt says: Hm."
    # sha256("0/f7/1") begins with caf21613: without its first bit that is 4af21613
    assert request.json == {
        "model": "m", "temperature": 0.9, "top_p": 0.5, "max_tokens": 99, "seed": 0x4AF21613,
        "messages": [{"role": "system", "content": "Write 4."}, {"role": "user", "content": user}],
    }  # fmt: skip
    assert request.path == "/v1/chat/completions"


def test_extra_fields_are_sent_and_ours_left_out():
    extra = {"max_tokens": None, "seed": None, "max_completion_tokens": 9, "chat_template_kwargs": {"thinking": False}}
    with Scripted(["x"]) as server:
        write(endpoint(server, extra=extra), [ask(0)])
        sent = server.requests[0].json
    assert sent.keys() == {
        "model", "messages", "temperature", "top_p", "max_completion_tokens", "chat_template_kwargs"
    }  # fmt: skip
    assert (sent["max_completion_tokens"], sent["chat_template_kwargs"]) == (9, {"thinking": False})


def test_seeds_follow_the_fact_the_attempt_and_the_seed_alone():
    questions = [ask(0), ask(1), ask(0, attempt=1)]
    with Scripted(["x"]) as server:
        for changes in ({}, {"concurrency": 1, "timeout": 3.0}, {"seed": 1}):
            for question in questions:
                write(endpoint(server, **changes), [question])
        seeds = [request.json["seed"] for request in server.asked]
    assert seeds[:3] == seeds[3:6] and len({*seeds}) == 6
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (says("Half an", finish="length"), {"text": "Half an", "cut": True}),
        (says(None), {"text": ""}),
        (says([{"type": "text", "text": "Two "}, {"type": "text", "text": "parts."}]), {"text": "Two parts."}),
        (says("x", used=None), {"text": "x", "prompt_tokens": 0, "completion_tokens": 0}),
    ],
)
def test_contents_of_replies(behaviour, expected):
    usual = {"prompt_tokens": 30, "completion_tokens": 12, "requests": 1}
    with Scripted([behaviour]) as server:
        assert write(endpoint(server), [ask(0)]) == [GenerationResponse(fact="f0", attempt=0, **{**usual, **expected})]


def test_every_question_gets_its_own_reply_and_not_too_many_are_under_way():
    with Scripted(lambda request: says(request.question.upper(), delay=0.05)) as server:
        replies = write(endpoint(server, concurrency=3), asks(9))
        assert [reply.text for reply in replies] == [f"WHO IS {number}?" for number in range(9)]
        assert server.most == 3


def test_a_slow_question_does_not_hold_the_others():
    with Scripted(lambda request: says("x", delay=0.6 if "0?" in request.question else 0.0)) as server:
        replies = endpoint(server, concurrency=2).write(asks(6), load_facts=list, should_continue=lambda: True)
        assert [reply.fact for reply in replies] == ["f1", "f2", "f3", "f4", "f5", "f0"]


def test_answers_by_question():
    with Scripted(answering(lambda question: f"Not {question}")) as server:
        assert write(endpoint(server), [ask(3)])[0].text == "Not Who is 3?"


@pytest.mark.parametrize(
    "hitch",
    [
        fails(429), fails(500), fails(503), fails(408), Behaviour(drop=True), says("Never seen whole.", half=True),
        says("Too late.", delay=0.6),
    ],
    ids=["429", "500", "503", "408", "drop", "half", "slow"],
)  # fmt: skip
def test_temporary_failures_are_retried_and_counted(hitch):
    with Scripted([hitch, "well"]) as server:
        (reply,) = write(endpoint(server, timeout=0.3), [ask(0)])
    assert (reply.text, reply.requests) == ("well", 2)


def test_requests_are_counted_for_each_question():
    tries: dict[str, int] = {}

    def script(request):
        tries[request.question] = tries.get(request.question, 0) + 1
        return fails(500) if tries[request.question] <= int(request.question[-2]) % 3 else "x"

    with Scripted(script) as server:
        assert [reply.requests for reply in write(endpoint(server), asks(6))] == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize(
    ("behaviour", "match"),
    [
        (fails(500, "out of memory"), r"responded with 500, out of memory \(3 attempts\); .*log.* inversion.retries=2"),
        (
            fails(429, "slow down"),
            r"responded with 429, slow down \(3 attempts\); lower inversion.concurrency=4 or set inve",
        ),
        (
            Behaviour(drop=True),
            r"the connection to .* failed .*\(3 attempts\); .*is running, or raise inversion.retries=2",
        ),
        (
            says("x", half=True),
            r"the connection to .* failed .*\(3 attempts\); .*is running, or raise inversion.retries=2",
        ),
        (says("x", delay=1.0), r"sent nothing for 0.2 seconds \(3 attempts\); raise inversion.timeout or lower"),
    ],
    ids=["500", "429", "drop", "half", "slow"],
)
def test_permanent_failures_end_after_the_retries(behaviour, match):
    with Scripted([behaviour]) as server:
        text, came = failure(endpoint(server, timeout=0.2), [ask(0)])
        assert len(server.asked) == 3
    assert came == []
    assert re.search(match, text)
    assert text.endswith("0 of 1 requests got a reply; then run again")


def test_a_pause_that_is_too_long_ends_it_and_is_named():
    busy = fails(429, "quota", retry_after="3600", retry_after_ms="3600000")
    with Scripted([busy]) as server:
        text, _ = failure(endpoint(server, requests_per_minute=600), [ask(0)])
        assert len(server.asked) == 1
    assert (
        "responded with 429, quota (retry after 3600); lower inversion.concurrency=4 or "
        "inversion.requests_per_minute=600" in text
    )


def test_pending_replies_arrive_before_the_error_and_no_new_request_is_sent():
    def script(request):
        number = int(request.question[-2])
        if number == 2:
            assert server.await_asked(6)
            return fails(500)
        return says("x", delay=0.5 if number in (3, 4, 5) else 0.0)

    with Scripted(script) as server:
        text, came = failure(endpoint(server, concurrency=4, retries=0), asks(9))
        assert {reply.fact for reply in came} == {"f0", "f1", "f3", "f4", "f5"}
        assert len(server.asked) == 6
    assert text.endswith("5 of 9 requests got a reply; run again to send only the others")


def test_nothing_is_sent_again_once_another_failed():
    def script(request):
        assert server.await_asked(2)
        return fails(401) if "0?" in request.question else fails(500, retry_after_ms="600")

    with Scripted(script) as server:
        text, came = failure(endpoint(server, concurrency=2, retries=5), asks(5))
        assert len(server.asked) == 2
    assert "401" in text and came == []


def test_a_refused_question_is_noted_and_the_others_come():
    def script(request):
        return fails(400, "too  long:\n" + "y" * 300) if "1?" in request.question else "x"

    with Scripted(script) as server:
        replies = write(endpoint(server, concurrency=2), asks(4))
    assert [reply.text for reply in replies] == ["x", "", "x", "x"]
    assert replies[1].refused.startswith("400, too long: yyy") and len(replies[1].refused) == 200
    assert replies[1].requests == 1 and not any(replies[number].refused for number in (0, 2, 3))


@pytest.mark.parametrize(("status", "count", "sent"), [(400, 9, 4), (422, 3, 3), (413, 9, 4)])
def test_a_server_that_refuses_everything_is_queried_no_longer(status, count, sent):
    with Scripted([fails(status, "temperature is unknown")]) as server:
        text, came = failure(endpoint(server, concurrency=4), asks(count))
        assert sent <= len(server.asked) < sent + 4
    assert came == []
    assert f"rejected each of the first {sent} requests ({status}, temperature is unknown)" in text
    assert "inversion.model=m and the other inversion options" in text


def test_a_single_refusal_is_about_its_question_and_so_are_those_of_later_attempts():
    with Scripted([fails(400, "no")]) as server:
        assert [reply.refused for reply in write(endpoint(server, concurrency=1), [ask(0)])] == ["400, no"]
        again = [ask(number, attempt=1) for number in range(6)]
        assert len(write(endpoint(server, concurrency=2), again)) == 6


def test_an_address_without_v1():
    with Scripted(["x"]) as server:
        text, _ = failure(endpoint(server.base_url.removesuffix("/v1")), asks(2))
    assert "serves no chat completions (404, no such page); such URLs usually end in /v1" in text
    with Scripted(["x"]) as server:
        text, _ = failure(endpoint(server.base_url + "/v2"), asks(2))
    assert "check that inversion.base_url=" in text and "/v1/v2 is complete" in text


def test_a_model_that_does_not_exist():
    models = ["llama-3-8b", "qwen3-14b", *(f"other-{number}" for number in range(9))]
    with Scripted([fails(404, "no such model")], models=models) as server:
        text, came = failure(endpoint(server, model="qwen3-14"), asks(3))
    assert "inversion.model=qwen3-14 is invalid" in text and came == []
    assert "serves: llama-3-8b, qwen3-14b, other-0, other-1, other-2 …" in text
    assert text.endswith("Did you mean qwen3-14b? 0 of 3 requests got a reply; then run again")


def test_another_status_is_reported():
    with Scripted([fails(402, "pay first")]) as server:
        text, _ = failure(endpoint(server), [ask(0)])
    assert "responded with 402, pay first; check inversion.base_url and the other inversion options" in text


def test_starts_are_spread_over_the_minute():
    with Scripted(["x"]) as server:
        writer = endpoint(server, requests_per_minute=300)  # one in .2 seconds
        write(writer, asks(3))
        write(writer, asks(2))  # the clock goes on
        times = [request.time for request in server.asked]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert len(gaps) == 4 and all(0.1 < gap < 0.5 for gap in gaps) and times[-1] - times[0] > 0.7


def test_replies_come_while_the_next_start_is_waited_for():
    with Scripted(["x"]) as server:
        replies = endpoint(server, requests_per_minute=60).write(asks(2), load_facts=list, should_continue=lambda: True)
        start = time.monotonic()
        next(replies)
        assert time.monotonic() - start < 0.8
        replies.close()
        assert len(server.asked) == 1


def test_no_request_follows_a_stop():
    said = iter([True, True, True, False])
    with Scripted(["x"]) as server:
        replies = write(endpoint(server, concurrency=2), asks(9), should_continue=lambda: next(said))
        assert len(replies) == len(server.asked) == 3
        assert write(endpoint(server), asks(2), should_continue=lambda: False) == []
        assert write(endpoint(server), []) == []
        assert len(server.asked) == 3


def test_an_unexpected_error_is_raised_as_it_is(monkeypatch):
    monkeypatch.setattr("meow_lightning.inversion.chat_server.parse_completion", lambda body: 1 / 0)
    with Scripted(["x"]) as server, pytest.raises(ZeroDivisionError):
        write(endpoint(server), [ask(0)])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model": ""}, "inversion.model= is invalid: expected the model's name on the server$"),
        (
            {"key_env": "sk-mine"},
            "inversion.key_env is invalid: expected the name of an environment variable that contains the key",
        ),
        ({"candidates": 0}, "inversion.candidates=0 is invalid: expected (a number from 1 to .*|an integer)$"),
        ({"temperature": -0.1}, "inversion.temperature=-0.1 is invalid: expected a number from 0.001 to 100, or 0$"),
        ({"temperature": float("nan")}, "inversion.temperature=nan is invalid"),
        ({"temperature": "hot"}, "inversion.temperature=hot is invalid"),
        ({"top_p": 0}, "inversion.top_p=0 is invalid: expected a number above 0 and at most 1$"),
        ({"top_p": 1.1}, "inversion.top_p=1.1 is invalid"),
        (
            {"max_new_tokens": 0},
            "inversion.max_new_tokens=0 is invalid: expected (a number from 1 to .*|an integer)$",
        ),
        (
            {"concurrency": 0},
            "inversion.concurrency=0 is invalid: expected (a number from 1 to .*|an integer)$",
        ),
        (
            {"requests_per_minute": 0},
            "inversion.requests_per_minute=0 is invalid: expected (a number from 1 to .*|an integer)$",
        ),
        ({"timeout": 0}, "inversion.timeout=0 is invalid: expected a number above 0 and at most 1e[+]06$"),
        ({"retries": -1}, "inversion.retries=-1 is invalid: expected (a number from 0 to .*|an integer)$"),
        ({"retries": 1.5}, "inversion.retries=1.5 is invalid: expected (a number from 0 to .*|an integer)$"),
        (
            {"max_requests": 0},
            "inversion.max_requests=0 is invalid: expected (a number from 1 to .*|an integer)$",
        ),
        (
            {"max_total_tokens": 0},
            "inversion.max_total_tokens=0 is invalid: expected (a number from 1 to .*|an integer)$",
        ),
    ],
)
def test_options_out_of_their_range(changes, match):
    with pytest.raises(UserError, match=match) as error:
        endpoint("http://localhost:1/v1", **changes)
    assert "sk-mine" not in str(error.value)


def test_the_ends_of_ranges_are_fine():
    writer = endpoint(
        "https://a", temperature=0, retries=0, max_requests=1, max_total_tokens=1, requests_per_minute=1, concurrency=1
    )
    assert (writer.max_requests, writer.max_total_tokens, writer.can_retry, writer.runs_locally) == (
        1,
        1,
        True,
        False,
    )
