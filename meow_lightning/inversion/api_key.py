"""Redaction of API keys in any form in which a server may send them back."""

from __future__ import annotations

import base64
import re

SHORTEST = 8  # minimum length for matching other forms of a key: shorter keys, such as EMPTY, may be words
MASK = "***"
# Separators between two letters of a split key: blanks and invisible characters, plain or escaped.
_GAP = r"(?:\s|[\u00ad\u200b-\u200d\u2060\ufeff]|\\{1,4}[nrt]|%(?:25){0,3}(?:20|09|0[aAdD])|&nbsp;)*"
_BASE64 = r"[A-Za-z0-9+/_=-]"


class Secret:
    r"""Redactor of a key in texts.

    Matches the key verbatim, in any case, split by blanks, with any of its letters escaped as in a URL (``%73``, also
    encoded repeatedly), in JSON (``\u0073``, ``\x73``) or in HTML (``&#115;``), in hexadecimal digits, and in base64,
    also as part of a longer text. A key of fewer than 8 characters is matched only verbatim.

    Args:
        key: The key, at least one character.
    """

    def __init__(self, key: str) -> None:
        self._key, self._patterns = key, tuple[re.Pattern[str], ...]()
        if len(key) >= SHORTEST:
            hexadecimal = _GAP.join(f"{byte:02x}" for byte in key.encode()).replace(_GAP, f":?{_GAP}")
            self._patterns = (
                re.compile(_GAP.join(map(_letter, key)), re.IGNORECASE),
                re.compile(hexadecimal, re.IGNORECASE),
                re.compile("|".join(f"{_BASE64}{{0,3}}{each}{_BASE64}{{0,4}}" for each in _base64(key))),
            )

    def redacted_for_display(self, text: str) -> str:
        """Redact a text for display; short keys are redacted too."""
        return self.redacted(text).replace(self._key, MASK)

    def redacted(self, text: str) -> str:
        """Redact a text for storage; a short key stays, since it may be a word of the text."""
        for pattern in self._patterns:
            text = pattern.sub(MASK, text)
        return text


def _letter(letter: str) -> str:
    codes = sorted({ord(each) for each in (letter.lower(), letter.upper())})
    digits = "|".join(f"{code:02x}" for code in codes)
    numbers = "|".join(map(str, codes))
    return (
        rf"(?:\\{{0,4}}{re.escape(letter)}|%(?:25){{0,3}}(?:{digits})|\\{{1,4}}(?:u00|x)(?:{digits})"
        rf"|&\#0{{0,6}}(?:{numbers});|&\#x0{{0,6}}(?:{digits});)"
    )


def _base64(key: str) -> list[str]:
    """Patterns of the key's base64 encodings at every alignment, for the key as given, in lower and in upper case."""
    patterns = []
    for text in dict.fromkeys((key, key.lower(), key.upper())):
        for before in range(3):  # bytes before the key within its first group of three
            raw = bytes(before) + text.encode()
            code = base64.b64encode(raw).decode().rstrip("=")
            # drop characters that mix in bits of neighbouring bytes
            code = code[(0, 2, 3)[before] : None if len(raw) % 3 == 0 else -1]
            letters = (
                f"(?:[{'+-' if each == '+' else '/_'}]|%{ord(each):02X})" if each in "+/" else each for each in code
            )
            patterns.append(_GAP.join(letters))
    return patterns
