"""Training rows of facts, and the digests by which facts enter artifact keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.types import Dataset, Encoded, Fact

CHARACTERS = 3.5  # per token on average in English; names and small vocabularies need more tokens
FRAME = 40  # upper bound of the prompt tokens around a question, including a chat template's system turn


def estimated_length(text: str) -> int:
    """Estimate the number of tokens of a text without a tokenizer."""
    return round(len(text) / CHARACTERS) + 1


def estimated_tokens(fact: Fact, frame: int = FRAME) -> int:
    """Estimate the number of tokens of a fact's row, of which ``frame`` are the prompt around its question."""
    return estimated_length(fact.question) + estimated_length(fact.answer) + frame


def question_answer_pairs(facts: Iterable[Fact]) -> list[tuple[str, str]]:
    """Return (question, answer) of every fact, followed by its further phrasings."""
    return [pair for fact in facts for pair in ((fact.question, fact.answer), *fact.phrasings)]


def encode(codec: PromptEncoder, texts: Iterable[tuple[str, str]]) -> list[Encoded]:
    """Encode questions and answers as rows."""
    return [codec.encode(question, answer) for question, answer in texts]


def digest_of(facts: Sequence[Fact], parts: Sequence[str]) -> str:
    """Hash the named attributes of facts; all attributes if none is named."""
    return content_digest([[getattr(fact, part) for part in parts] for fact in facts] if parts else facts)


def fingerprint(dataset: Dataset) -> str:
    """Hash everything that training and evaluation read from a dataset."""
    splits = ("forget", "retain", "real_authors", "world_facts")
    return content_digest([*(dataset.facts(split) for split in splits), *dataset.evaluation().values()])


def content_digest(content: Sequence[Any]) -> str:
    """Hash JSON values or facts in order: the first sixteen hex digits of SHA-256."""

    def plain(item: Any) -> Any:
        return [getattr(item, name) for name in item.__slots__] if isinstance(item, Fact) else list(item)

    text = json.dumps(content, default=plain, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
