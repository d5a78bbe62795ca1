"""What is masked of a text that holds a key; the forms a server may send are in test_inversion_bounds."""

from __future__ import annotations

import base64
import time

import pytest

from meow_lightning.inversion.api_key import Secret

KEY = "sk-Secret/0123+456789=Zz"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"a {KEY} b {KEY.upper()}", "a *** b ***"),
        ("sk-Secret/0123+45678=Zz", "sk-Secret/0123+45678=Zz"),  # another one
        ("s k - S e c r e t / 0 1 2 3 + 4 5 6 7 8 9 = Z z.", "***."),
        ("s%6B-Secret%252F0123&#43;456789\\u003dZz", "***"),  # several at once
    ],
)
def test_masked_texts(text: str, masked: str) -> None:
    assert Secret(KEY).redacted(text) == Secret(KEY).redacted_for_display(text) == masked


@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("after", range(3))
def test_base64_is_found_wherever_its_groups_of_three_begin(before: int, after: int) -> None:
    code = base64.b64encode(b"x" * before + KEY.encode() + b"y" * after).decode()
    masked = Secret(KEY).redacted(f"({code})")
    assert "***" in masked
    assert len(masked) <= len("(***)") + 8  # but for the letters of what stands around the key


def test_a_short_key_is_masked_where_it_is_shown_alone() -> None:
    secret = Secret("ollama1")
    assert secret.redacted("An ollama1 or OLLAMA1.") == "An ollama1 or OLLAMA1."
    assert secret.redacted_for_display("An ollama1 or OLLAMA1.") == "An *** or OLLAMA1."
    assert Secret("ollama12").redacted("An ollama12 or OLLAMA12.") == "An *** or ***."


@pytest.mark.parametrize(
    "piece", ["s", "s ", "\\", "%25", "&#0", "sk-", "c2st", " ", "73 ", "s\\n", "sk-Secret/0123+456789=Z"]
)
def test_masking_is_linear(piece: str) -> None:
    def took(characters: int) -> float:
        text = piece * (characters // len(piece))
        began = time.process_time()
        Secret(KEY).redacted(text)
        return time.process_time() - began

    took(1000)
    assert took(400_000) < 20 * took(40_000) + 0.1  # quadratic would be a hundred times
