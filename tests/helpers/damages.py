"""Damage that a power loss or a broken disk does to a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def _first_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _zeros(content: bytes) -> bytes:
    return b"\0" * len(content)


def _zeros_at_the_end(content: bytes) -> bytes:
    half = len(content) // 2
    return content[:half] + b"\0" * (len(content) - half)


def _foreign(content: bytes) -> bytes:
    half = len(content) // 2
    return content[:half] + bytes(range(256)) * 2 + content[half:]


def _another_digit(content: bytes) -> bytes:
    """Change one digit, so that JSON keeps its form."""
    place = next(i for i in range(len(content)) if content[i : i + 1].isdigit())
    return content[:place] + bytes([48 + (content[place] - 47) % 10]) + content[place + 1 :]


def _nothing(_: bytes) -> bytes:
    return b""


def _another_kind(_: bytes) -> bytes:
    return b"7\n"


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": _first_half, "zeros": _zeros, "zeros at the end": _zeros_at_the_end, "foreign bytes": _foreign,
    "another digit": _another_digit, "empty": _nothing, "another kind": _another_kind,
}  # fmt: skip
every_damage = pytest.mark.parametrize("damage", list(DAMAGES))


def harm(path: Path, damage: str) -> None:
    """Apply a kind of damage to a file."""
    before = path.read_bytes()
    path.write_bytes(DAMAGES[damage](before))
    assert path.read_bytes() != before
