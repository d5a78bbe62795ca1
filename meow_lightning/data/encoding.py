"""Facts to training rows, and the digest by which rows enter a key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.types import Dataset, Encoded, Fact

CHARACTERS = 3.5  # per token: a tokenizer's average on English; names and small vocabularies need more tokens
FRAME = 40  # tokens of prompt around a question, at most, a chat template's system turn included


def estimated_length(text: str) -> int:
    """Tokens of a text, roughly, without any tokenizer."""
    return round(len(text) / CHARACTERS) + 1


def estimated_tokens(fact: Fact, frame: int = FRAME) -> int:
    """Tokens of a fact's row, roughly; ``frame`` of them are the prompt around its question."""
    return estimated_length(fact.question) + estimated_length(fact.answer) + frame


def question_answer_pairs(facts: Iterable[Fact]) -> list[tuple[str, str]]:
    """(question, answer) of every fact, its further phrasings after it."""
    return [pair for fact in facts for pair in ((fact.question, fact.answer), *fact.phrasings)]


def encode(codec: PromptEncoder, texts: Iterable[tuple[str, str]]) -> list[Encoded]:
    """The rows of some questions and answers."""
    return [codec.encode(question, answer) for question, answer in texts]


def digest_of(facts: Sequence[Fact], parts: Sequence[str]) -> str:
    """The digest of some parts of facts; of all parts where none is named."""
    return content_digest([[getattr(fact, part) for part in parts] for fact in facts] if parts else facts)


def fingerprint(dataset: Dataset) -> str:
    """The digest of all that training and evaluation read of a dataset."""
    splits = ("forget", "retain", "real_authors", "world_facts")
    return content_digest([*(dataset.facts(split) for split in splits), *dataset.evaluation().values()])


def content_digest(content: Sequence[Any]) -> str:
    """Sixteen hex digits of the SHA-256 over JSON values or facts, in their order."""

    def plain(item: Any) -> Any:
        return [getattr(item, name) for name in item.__slots__] if isinstance(item, Fact) else list(item)

    text = json.dumps(content, default=plain, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
