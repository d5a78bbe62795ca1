"""Servers that never end, drip, swell or send what is no text: each against a real server on this machine."""

from __future__ import annotations

import base64
import gzip
import html
import itertools
import json
import re
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterable, Iterator

import pytest
from helpers.fake_server import Behaviour, Scripted, ask, asks, endpoint, fails, failure, says, write

from meow_lightning.errors import UserError
from meow_lightning.inversion.openai_client import parse_completion

KEY = "sk-Secret/0123+456789=Zz"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, and the client's own pauses are short."""
    monkeypatch.delenv("MEOW_TEST_KEY", raising=False)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)


def body(text: str) -> bytes:
    return json.dumps(says(text).body).encode()


def one_by_one(whole: bytes) -> Callable[[], Iterable[bytes]]:
    return lambda: (whole[place : place + 1] for place in range(len(whole)))


def headers() -> Iterator[bytes]:
    """A status line and headers without end."""
    yield b"HTTP/1.1 200 scripted\r\n"
    for number in itertools.count():
        yield f"x-{number}: y\r\n".encode()


DRIPS = {
    "body": Behaviour(pieces=one_by_one(body("x" * 500)), pause=0.02),
    "body with a length": Behaviour(
        pieces=one_by_one(body("x" * 500)), pause=0.02, headers={"content-length": str(len(body("x" * 500)))}
    ),
    "whole, then blanks": Behaviour(pieces=lambda: itertools.chain([body("x")], itertools.repeat(b" ")), pause=0.02),
    "headers": Behaviour(pieces=headers, pause=0.02, bare=True),
    "continue": Behaviour(pieces=lambda: itertools.repeat(b"HTTP/1.1 102 Processing\r\n\r\n"), pause=0.02, bare=True),
}


@pytest.mark.parametrize("behaviour", DRIPS.values(), ids=DRIPS.keys())
def test_a_reply_that_drips_has_a_deadline(behaviour: Behaviour) -> None:
    with Scripted([behaviour]) as server:
        began = time.monotonic()
        text, came = failure(endpoint(server, deadline=0.5, timeout=5.0, retries=1), [ask(0)])
        took = time.monotonic() - began
        assert len(server.asked) == 2  # once more, as after any other time-out
    assert came == []
    assert re.search(
        r"sent no complete reply within 0\.5 seconds \(2 attempts\); raise inversion\.deadline or lower "
        r"inversion\.max_new_tokens=512; 0 of 1", text,
    )  # fmt: skip
    assert 1.0 <= took < 3.0


def test_a_slow_reply_within_its_deadline_comes() -> None:
    whole = body("slow")
    with Scripted([Behaviour(pieces=one_by_one(whole), pause=0.001)]) as server:
        assert write(endpoint(server, deadline=10.0, timeout=0.5), [ask(0)])[0].text == "slow"


def test_a_look_at_a_server_that_drips_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meow_lightning.inversion.chat_server.CONNECT", 0.3)
    with (
        Scripted(["x"], models=Behaviour(pieces=lambda: itertools.repeat(b" "), pause=0.02)) as server,
        pytest.raises(UserError, match=r"does not answer \(no complete reply within 0.3 seconds\); start the server"),
    ):
        endpoint(server).check()


def test_an_endless_reply_is_refused_at_its_bound() -> None:
    endless = Behaviour(pieces=lambda: itertools.repeat(b'{"a": "' + b"x" * 10_000))
    with Scripted(lambda request: endless if "1?" in request.question else "x") as server:
        replies = write(endpoint(server, reply_bytes=100_000, concurrency=1), asks(3))
        assert server.written < 20_000_000
    assert [reply.text for reply in replies] == ["x", "", "x"]
    assert replies[1].refused == "the reply exceeds inversion.reply_bytes=100000 bytes"
    assert replies[1].requests == 1  # another try would be as long


def test_a_reply_as_long_as_allowed_comes() -> None:
    whole = body("x" * 1000)
    with Scripted([Behaviour(body=whole.decode())]) as server:
        assert write(endpoint(server, reply_bytes=len(whole)), [ask(0)])[0].text == "x" * 1000
        assert write(endpoint(server, reply_bytes=len(whole) - 1), [ask(0)])[0].refused.endswith("bytes")


BOMBS = {
    "gzip": gzip.compress(b" " * 50_000_000),
    "deflate": zlib.compress(b" " * 50_000_000),
    "br": b"\x5b\xff\xff\x0f",
    "zstd": b"\x28\xb5\x2f\xfd",
}


@pytest.mark.parametrize("encoding", BOMBS)
def test_a_compressed_reply_is_refused_unread(encoding: str) -> None:
    bomb = Behaviour(pieces=lambda: [BOMBS[encoding]], headers={"content-encoding": encoding})
    with Scripted(lambda request: bomb if "0?" in request.question else "x") as server:
        replies = write(endpoint(server, concurrency=1), [ask(1), ask(0)])
        assert {request.headers["accept-encoding"] for request in server.asked} == {"identity"}
    assert replies[0].refused == f"the reply is compressed ({encoding}) although the request forbids it"
    assert replies[1].text == "x"


def test_a_server_that_compresses_everything_is_queried_no_longer() -> None:
    bomb = Behaviour(pieces=lambda: [BOMBS["gzip"]], headers={"content-encoding": "gzip"})
    with Scripted([bomb]) as server:
        text, _ = failure(endpoint(server, concurrency=2), asks(9))
        assert len(server.asked) < 9
    assert "rejected each of the first 2 requests (the reply is compressed (gzip)" in text


def test_a_compressed_error_is_its_status() -> None:
    page = Behaviour(pieces=lambda: [gzip.compress(b"busy")], status=503, headers={"content-encoding": "gzip"})
    with Scripted([page, "well"]) as server:
        (reply,) = write(endpoint(server), [ask(0)])
    assert (reply.text, reply.requests) == ("well", 2)


def test_models_that_cannot_be_read_are_reported() -> None:
    bomb = Behaviour(pieces=lambda: [BOMBS["gzip"]], headers={"content-encoding": "gzip"})
    with (
        Scripted(["x"], models=bomb) as server,
        pytest.raises(UserError, match=r"sends an unreadable list of models \(the reply is compressed \(gzip\)"),
    ):
        endpoint(server).check()


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (body("x").replace(b'"x"', b'"Ada \\ud800 Moor"'), "half a character (a lone surrogate)"),
        (body("x").replace(b'"x"', b"[" * 100_000 + b"]" * 100_000), "nested too deeply"),
        (b'{"choices": ' * 50_000, "nested too deeply"),
    ],
    ids=["surrogate", "deep text", "deep reply"],
)
def test_values_other_than_text_are_refused(sent: bytes, why: str) -> None:
    odd = Behaviour(body=sent.decode())
    with Scripted(lambda request: odd if "0?" in request.question else "x") as server:
        replies = write(endpoint(server, concurrency=1), [ask(1), ask(0)])
    assert why in replies[0].refused and replies[0].text == "" and replies[0].requests == 1
    assert replies[1].text == "x"
    json.dumps(replies[0].refused, ensure_ascii=False).encode()


def test_errors_of_surrogates_and_depth_are_errors() -> None:
    for message in ('{"error": {"message": "no \\udfff"}}', '{"error": ' * 100_000):
        with Scripted([Behaviour(status=402, body=message)]) as server:
            text, _ = failure(endpoint(server), [ask(0)])
        text.encode()
        assert "responded with 402" in text


def test_a_body_is_utf8_whatever_its_headers_say() -> None:
    odd = Behaviour(body=body("Käthe").decode(), headers={"content-type": "application/json; charset=utf-16"})
    with Scripted([odd]) as server:
        assert write(endpoint(server), [ask(0)])[0].text == "Käthe"


def test_tokens_that_no_reply_takes_are_not_believed() -> None:
    reply = says("x", used=(10**30, -3)).body
    found = parse_completion(json.dumps(reply))
    assert found is not None and (found["prompt_tokens"], found["completion_tokens"]) == (0, 0)


def echoes(key: str) -> dict[str, str]:
    """Ways in which a server may send a key back."""
    return {
        "as it is": key,
        "upper": key.upper(),
        "lower": key.lower(),
        "url": urllib.parse.quote(key, safe=""),
        "all of url": "".join(f"%{ord(letter):02X}" for letter in key),
        "url twice": urllib.parse.quote(urllib.parse.quote(key, safe=""), safe=""),
        "json": "".join(f"\\u{ord(letter):04x}" for letter in key),
        "json twice": json.dumps(json.dumps(key).replace("/", "\\/")),
        "html": "".join(f"&#{ord(letter)};" for letter in key),
        "hex of html": "".join(f"&#x{ord(letter):X};" for letter in key),
        "python": "".join(f"\\x{ord(letter):02x}" for letter in key),
        "blanks": " ".join(key),
        "lines": "\n".join(key[place : place + 5] for place in range(0, len(key), 5)),
        "invisible": "\u200b".join(key),
        "base64": base64.b64encode(key.encode()).decode(),
        "base64 of a header": base64.b64encode(f"Authorization: Bearer {key}".encode()).decode(),
        "base64 within": base64.b64encode(f"{{'key': '{key}'}}".encode()).decode(),
        "base64 for urls": base64.urlsafe_b64encode(f"ab{key}".encode()).decode(),
        "base64 of lower": base64.b64encode(f"x{key.lower()}y".encode()).decode(),
        "base64 in lines": "\n".join(re.findall(".{1,9}", base64.b64encode(key.encode()).decode())),
        "hex": key.encode().hex(),
        "hex in pairs": key.encode().hex(":"),
    }


def views(text: str) -> Iterator[str]:
    """A text as whoever looks for a key in it may read it."""
    bare = re.sub(r"[\s\u200b]|\\+n", "", text)
    yield bare
    yield urllib.parse.unquote(urllib.parse.unquote(bare))
    yield html.unescape(bare)
    yield re.sub(r"\\+(?:u00|x)([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), bare)
    yield bare.replace("\\", "")
    yield bytes.fromhex("".join(re.findall("[0-9a-f]{2}", bare.replace(":", "")))).decode("latin-1")
    for run in re.findall(r"[A-Za-z0-9+/_-]{8,}", bare):
        for place in range(4):
            part = run[place : place + (len(run) - place) // 4 * 4].replace("-", "+").replace("_", "/")
            yield base64.b64decode(part).decode("latin-1")


def shows(text: str) -> bool:
    """Whether six letters of the key in a row can be read in a text."""
    pieces = {KEY.lower()[place : place + 6] for place in range(len(KEY) - 5)}
    return any(piece in view.lower() for view in views(text) for piece in pieces)


@pytest.mark.parametrize("form", echoes(KEY))
def test_a_key_that_comes_back_in_another_form_is_neither_shown_nor_kept(
    monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("MEOW_TEST_KEY", KEY)
    echo = echoes(KEY)[form]
    assert shows(f"You sent {echo} !")
    with Scripted([f"You sent {echo} ! One."]) as server:
        (reply,) = write(endpoint(server), [ask(0)])
    assert reply.text is not None and reply.text.startswith("You sent ") and reply.text.endswith(" ! One.")
    assert not shows(reply.text)
    for behaviour in (
        fails(402, f"no: {echo}"),
        Behaviour(status=402, body=f"no: {echo}"),
        Behaviour(body=f"no {echo}"),
    ):
        with Scripted([behaviour]) as server:
            text, _ = failure(endpoint(server), [ask(0)])
        assert "***" in text and not shows(text.partition(": set inversion.base_url")[0])
    with Scripted(lambda request: fails(400, f"no: {echo}") if "1?" in request.question else "x") as server:
        replies = write(endpoint(server, concurrency=1), asks(2))
    assert replies[1].refused.startswith("400, no: ") and "***" in replies[1].refused and not shows(replies[1].refused)


def test_a_short_key_is_a_word_that_replies_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEOW_TEST_KEY", "EMPTY")
    with Scripted(["The house was EMPTY, or empty."]) as server:
        assert write(endpoint(server), [ask(0)])[0].text == "The house was EMPTY, or empty."
    with Scripted([fails(402, "no EMPTY key")]) as server:
        assert "402, no *** key" in failure(endpoint(server), [ask(0)])[0]
