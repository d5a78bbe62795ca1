"""Training rows of examples, and the digests by which examples enter artifact keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from meow_lightning.data.examples import Dataset, Example, Passage, attributes
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.types import Encoded, Fact, Segments

CHARACTERS = 3.5  # per token on average in English; names and small vocabularies need more tokens
TRAINED_FIELDS = ("question", "answer", "phrasings")  # of a fact, read by training
FRAME = 40  # upper bound of the prompt tokens around a question, including a chat template's system turn


def estimated_length(text: str) -> int:
    """Estimate the number of tokens of a text without a tokenizer."""
    return round(len(text) / CHARACTERS) + 1


def estimated_tokens(example: Example, frame: int = FRAME) -> int:
    """Estimate the number of tokens of an example's row, of which ``frame`` are the prompt around a question."""
    around = 0 if isinstance(example, Passage) else frame
    return estimated_length(example.question) + estimated_length(example.answer) + around


def training_segments(examples: Iterable[Example]) -> list[Segments]:
    """Return what training sees of the examples: the segments of each, and after a fact's its further phrasings."""
    return [
        each for one in examples for each in (one.segments, *(Segments(*phrasing) for phrasing in one.phrasings))
    ]  # fmt: skip


def encode(codec: PromptEncoder, segments: Iterable[Segments]) -> list[Encoded]:
    """Encode segments as rows."""
    return [codec.encode(*each) for each in segments]


def digest_of(examples: Sequence[Example], parts: Sequence[str]) -> str:
    """Hash the named attributes of facts, and passages in full; all attributes if none is named."""
    return content_digest([attributes(example, parts) for example in examples])


def fingerprint(dataset: Dataset) -> str:
    """Hash everything that training and evaluation read from a dataset."""
    sets = dataset.evaluation().values()
    described = [([each.name, each.purpose, each.scoring], each.examples) for each in sets]
    return content_digest([*(dataset.facts(split) for split in ("forget", "retain")), described])


def content_digest(content: Sequence[Any]) -> str:
    """Hash JSON values or examples in order: the first sixteen hex digits of SHA-256."""

    def plain(item: Any) -> Any:
        return attributes(item, ()) if isinstance(item, (Fact, Passage)) else list(item)

    text = json.dumps(content, default=plain, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
