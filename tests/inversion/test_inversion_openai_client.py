from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from helpers.fake_server import Behaviour, Scripted, ask, asks, endpoint, fails, failure, says, write

from meow_lightning.errors import UserError

KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, and the client's own pauses are short."""
    monkeypatch.delenv("MEOW_TEST_KEY", raising=False)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)


def stops_writing(server: Scripted) -> bool:
    """Whether the server, which writes every 10 ms to whoever is connected, soon finds its connections closed."""
    for _ in range(20):
        written = server.written
        time.sleep(0.3)
        if server.written == written:
            return True
    return False


def test_a_redirect_is_not_followed(monkeypatch):
    monkeypatch.setenv("MEOW_TEST_KEY", KEY)
    with Scripted(["x"]) as other:
        there = f"{other.base_url}/chat/completions"
        with Scripted([Behaviour(status=307, headers={"location": there})]) as server:
            text, _ = failure(endpoint(server), [ask(0)])
        assert other.requests == []
    assert f"redirects to {there} (307, " in text


def test_leaving_early_neither_hangs_nor_leaves_threads():
    with Scripted(lambda request: says("x", delay=0.0 if "0?" in request.question else 9.0)) as server:
        replies = endpoint(server, timeout=9.0, retries=5).write(asks(9), load_facts=list, should_continue=lambda: True)
        assert next(replies).fact == "f0"
        start = time.monotonic()
        replies.close()
        assert time.monotonic() - start < 0.9
        assert not [thread for thread in threading.enumerate() if thread.name == "inversion"]
        assert len(server.asked) <= 5  # those cut off were not sent again


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where a shell started the tests in the background and so ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_cuts_what_is_under_way():
    endless = Behaviour(pieces=lambda: itertools.repeat(b" "), pause=0.01)
    with Scripted(lambda request: says("x") if "0?" in request.question else endless) as server:
        replies = endpoint(server, timeout=9.0, retries=5).write(asks(9), load_facts=list, should_continue=lambda: True)
        assert next(replies).fact == "f0"
        assert server.await_asked(4)
        start = time.monotonic()
        main = threading.main_thread().ident
        threading.Timer(0.2, signal.pthread_kill, [main, signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            next(replies)
        assert time.monotonic() - start < 6.0  # cut off, not timed out
        assert stops_writing(server)
        assert not [thread for thread in threading.enumerate() if thread.name == "inversion"]
        assert len(server.asked) <= 5  # those cut off were not sent again


def test_a_notebooks_event_loop_is_no_hindrance():
    async def cell() -> list[str]:
        return [reply.text for reply in write(endpoint(server), asks(2))]

    with Scripted(["x"]) as server:
        assert asyncio.run(cell()) == ["x", "x"]


def test_the_key_goes_along_where_there_is_one_and_nothing_else_of_the_environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "stray")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/stray")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Stray: stray\nAuthorization: Bearer stray")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Scripted(["x"]) as server:
        for value, key_env in (
            (None, "MEOW_TEST_KEY"),
            (" ", "MEOW_TEST_KEY"),
            (KEY, None),
            (KEY + "\n", "MEOW_TEST_KEY"),
        ):
            if value is not None:
                monkeypatch.setenv("MEOW_TEST_KEY", value)
            writer = endpoint(server, key_env=key_env)
            writer.check()
            write(writer, [ask(0)])
        sent = [request.headers for request in server.requests]
    assert [headers.get("authorization") for headers in sent] == [None] * 6 + [f"Bearer {KEY}"] * 2
    assert "stray" not in str(sent)


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_not_taken_is_not_shown(status, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MEOW_TEST_KEY", KEY)
    no = fails(status, f"bad key {KEY}")
    with Scripted([no], models=no) as server:
        writer = endpoint(server)
        text, came = failure(writer, asks(9))
        with pytest.raises(UserError) as error:
            writer.check()
        assert len(server.asked) <= 4 and came == []
    for line in (text, str(error.value)):
        assert f"denies access ({status}, bad key ***); put a valid key into" in line
        assert "the environment variable MEOW_TEST_KEY" in line
    assert error.value.__cause__ is None and error.value.__context__ is None
    assert KEY not in text + str(error.value) + repr(writer) + str(vars(writer)) + caplog.text


def test_a_key_is_scrubbed_from_refusals(monkeypatch):
    monkeypatch.setenv("MEOW_TEST_KEY", KEY)
    with Scripted([fails(400, f"you, {KEY}, said too much")]) as server:
        assert write(endpoint(server), [ask(0)])[0].refused == "400, you, ***, said too much"


@pytest.mark.parametrize(
    ("key_env", "match"),
    [
        ("MEOW_TEST_KEY", "no key was sent: set the environment variable MEOW_TEST_KEY"),
        (None, "no key was sent: put one into an environment variable and set inversion.key_env to its name"),
    ],
)
def test_a_missing_key(key_env, match):
    with Scripted([fails(401)], models=fails(401)) as server, pytest.raises(UserError, match=match):
        endpoint(server, key_env=key_env).check()


def test_check_finds_that_nothing_answers():
    with Scripted(["x"]) as server:
        address = server.base_url
    with pytest.raises(UserError, match=rf"inversion.base_url={address} does not answer \(.+\); start the server"):
        endpoint(address).check()
    with (
        Scripted(["x"], models=Behaviour(delay=2.0)) as server,
        pytest.raises(UserError, match="does not answer"),
    ):
        endpoint(server, timeout=0.1).check()


@pytest.mark.parametrize(
    "models", [("other",), (), fails(404), fails(500), Behaviour(body="<html>"), Behaviour(body="{", status=200)]
)
def test_check_takes_any_server_that_answers(models):
    with Scripted(["x"], models=models) as server:
        endpoint(server).check()
        assert {request.path for request in server.requests} == {"/v1/models"}
        assert len(server.requests) <= 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<html><body>Welcome</body></html>", "no readable text"),
        ({"choices": []}, '{"choices": []}'),
        ({"choices": None}, '{"choices": null}'),
        ({"error": {"message": "upstream failed"}}, "upstream failed"),
        ([1], "[1]"),
    ],
)
def test_invalid_chat_completions(body, said):
    with Scripted([Behaviour(body=body)], path="") as server:
        text, came = failure(endpoint(server), [ask(0)])
        assert f"sent no chat completion: {said}; such URLs usually end in /v1: set " in text
        assert f"inversion.base_url={server.base_url}/v1" in text and came == []
