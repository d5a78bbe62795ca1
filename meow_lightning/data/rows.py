"""Facts to training rows, and the digest by which rows enter a key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from meow_lightning.data.prompts import Codec
from meow_lightning.types import Encoded, Fact


def pairs(facts: Iterable[Fact]) -> list[tuple[str, str]]:
    """(question, answer) of every fact, its further phrasings after it."""
    return [pair for fact in facts for pair in ((fact.question, fact.answer), *fact.phrasings)]


def encode(codec: Codec, texts: Iterable[tuple[str, str]]) -> list[Encoded]:
    """The rows of some questions and answers."""
    return [codec.encode(question, answer) for question, answer in texts]


def digest(content: Sequence[Any]) -> str:
    """Sixteen hex digits of the SHA-256 over JSON values or facts, in their order."""

    def plain(item: Any) -> Any:
        return [getattr(item, name) for name in item.__slots__] if isinstance(item, Fact) else list(item)

    text = json.dumps(content, default=plain, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
