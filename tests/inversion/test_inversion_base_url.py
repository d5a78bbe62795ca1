from __future__ import annotations

import pytest
from helpers.fake_server import ask, endpoint, write

from meow_lightning.errors import UserError
from meow_lightning.inversion.base_url import api_key, checked_address, is_local

KEY = "sk-secret-0123456789"


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("localhost:8000/v1", "expected an http or https URL. Did you mean http://localhost:8000/v1[?]$"),
        ("ftp://a/v1", "inversion.base_url=ftp://a/v1 is invalid: expected an http or https URL such as"),
        ("http:///v1", "inversion.base_url=http:///v1 is invalid: expected an http or https URL such as"),
        ("http://a:b/v1", "inversion.base_url=http://a:b/v1 is invalid"),
        (None, "inversion.base_url=None is invalid: expected an http or https URL such as http://localhost:8000/v1"),
        (
            "https://a/v1?key=b",
            "inversion.base_url=https://a/v1… is invalid: expected a URL without . and #. Did you mean https://a/v1[?]$",
        ),
        (
            "https://a/v1/chat/completions",
            "is invalid: expected the URL without /chat/completions, .*Did you mean https://a/v1[?]$",
        ),
    ],
)
def test_invalid_addresses(given, match):
    with pytest.raises(UserError, match=match) as error:
        checked_address(given)
    assert "key=b" not in str(error.value)


def test_an_address_loses_its_last_slash():
    assert checked_address(" https://a/v1/ ") == "https://a/v1"


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("http://localhost:8000/v1", True), ("http://127.0.0.1/v1", True), ("http://127.9.9.9", True),
        ("http://[::1]:80/v1", True), ("http://0.0.0.0:8000", True), ("http://a.localhost", True),
        ("http://localhost.evil.org", False), ("http://10.0.0.1", False), ("http://127.0.0.1.evil.org", False),
    ],
)  # fmt: skip
def test_texts_that_stay_on_this_machine(address, own, monkeypatch):
    monkeypatch.setenv("MEOW_TEST_KEY", KEY)
    assert is_local(address) is own
    assert api_key("MEOW_TEST_KEY", base_url=address.replace("http:", "https:")) == KEY
    if own:
        assert api_key("MEOW_TEST_KEY", base_url=address) == KEY
    else:
        with pytest.raises(UserError, match="unencrypted"):
            api_key("MEOW_TEST_KEY", base_url=address)


def test_names_and_passwords_in_addresses_are_not_shown():
    with pytest.raises(UserError, match="contains a user name or a password; remove it") as error:
        endpoint("https://me:pass@a/v1")
    assert "pass@" not in str(error.value)


def test_a_key_never_goes_unencrypted_over_the_net(monkeypatch):
    writer = endpoint("http://teacher.invalid:8000/v1")
    monkeypatch.setenv("MEOW_TEST_KEY", KEY)
    match = "inversion.base_url=http://teacher.invalid:8000/v1 would send the key in MEOW_TEST_KEY unencrypted .*https"
    with pytest.raises(UserError, match=match) as error:
        writer.check()
    assert KEY not in str(error.value)
    with pytest.raises(UserError, match="send no key"):
        write(writer, [ask(0)])


def test_a_key_that_no_header_takes_is_named_without_showing_it(monkeypatch):
    monkeypatch.setenv("MEOW_TEST_KEY", "sk-\nsecret")
    with pytest.raises(UserError, match="variable MEOW_TEST_KEY contains a line break") as error:
        endpoint("http://localhost:9/v1").check()
    assert "secret" not in str(error.value)
