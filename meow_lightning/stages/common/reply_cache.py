"""A cache of replies, so that the same request is never paid for twice."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from meow_lightning.config.instantiate import component_versions
from meow_lightning.inversion.base import GenerationRequest, Writer
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.results.propose import QUESTION
from meow_lightning.store.integrity import MANIFEST, DamagedError, Integrity
from meow_lightning.store.jsonl import read_lines


def request_digest(request: GenerationRequest) -> str:
    """Compute the digest of a request from everything the writer sees and the attempt: 16 hex digits."""
    fact = request.fact
    parts = [
        fact.question, fact.answer, request.attempt, request.count, request.previous_answers, request.model_answer,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:16]


def cached_replies(
    work: StageContext, writer: Writer, *, version: int, setting: str, file: str
) -> dict[str, dict[str, Any]]:
    """Collect the replies of the same writer with the same settings in other results of this store, by request digest.

    More facts, more attempts or a larger budget give another result with many of the same requests. With
    ``cache=refresh`` nothing is reused.

    Args:
        work: The stage's context.
        writer: The writer.
        version: Version of the stage.
        setting: Name of the writer's settings among those of the stage.
        file: Its file of replies.
    """
    replies: dict[str, dict[str, Any]] = {}
    own = {"version": version, setting: work.settings[setting], **component_versions(type(writer))}
    store = Integrity(work.folder.parent.parent, keep=False)
    for path in sorted(work.folder.parent.glob(f"*/{MANIFEST}")) if work.inputs["reuse"] else ():
        try:
            manifest = store.check(path.parent, stage=work.stage, key=path.parent.name)
            other = {**manifest["components"], "version": manifest["version"], setting: manifest["settings"][setting]}
            same = all(other[name] == value for name, value in own.items())
            rows = list(read_lines(path.parent / file)) if same else []
        except (DamagedError, OSError, ValueError, KeyError, TypeError):
            continue  # removed meanwhile, or damaged: nothing to reuse
        replies |= {row[QUESTION]: {**row, "requests": 0, "prompt_tokens": 0, "completion_tokens": 0} for row in rows}
    return replies
