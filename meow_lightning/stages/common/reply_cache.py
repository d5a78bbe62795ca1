"""Replies to questions that were put before: the same question is never paid for twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from meow_lightning.inversion.base import GenerationRequest, GenerationResponse
from meow_lightning.stages.base import StageContext
from meow_lightning.store.integrity import MANIFEST, DamagedError, Integrity
from meow_lightning.store.jsonl import read_lines

QUESTION = "question"  # key of a row: the digest of what was asked


def question_of(ask: GenerationRequest) -> str:
    """What names a question: everything a writer is told, and which attempt it is; sixteen hex digits."""
    parts = [ask.fact.question, ask.fact.answer, ask.attempt, ask.count, ask.previous_answers, ask.model_answer]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:16]


def reply_of(row: Mapping[str, Any]) -> GenerationResponse:
    """A reply as the stage ``ask`` has written it."""
    fields = {name: value for name, value in row.items() if name not in (QUESTION, "number")}
    return GenerationResponse(**{**fields, "answers": None if row["answers"] is None else tuple(row["answers"])})


def cached_replies(work: StageContext, *, version: int) -> dict[str, dict[str, Any]]:
    """What the same writer with the same settings replied in other results of this store, by question; it is free.

    More facts, more attempts or a larger budget make another result with many of the same questions. Where a run is to
    make everything anew nothing is known.
    """
    found: dict[str, dict[str, Any]] = {}
    store = Integrity(work.folder.parent.parent, keep=False)
    for path in sorted(work.folder.parent.glob(f"*/{MANIFEST}")) if work.inputs["reuse"] else ():
        try:
            manifest = store.check(path.parent, stage=work.stage, key=path.parent.name)
            same = manifest["version"] == version and manifest["settings"]["inversion"] == work.settings["inversion"]
            rows = list(read_lines(path.with_name("replies.jsonl"))) if same else []
        except (DamagedError, OSError, ValueError, KeyError, TypeError):
            continue  # it just went, or is damaged: then it says nothing
        found |= {row[QUESTION]: {**row, "requests": 0, "prompt_tokens": 0, "completion_tokens": 0} for row in rows}
    return found
