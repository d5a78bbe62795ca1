"""A writer of inverted facts for tests: reads replies from one file and records requests in another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from meow_lightning.inversion.base import GenerationRequest, GenerationResponse, LoadFacts, ShouldContinue, Writer


class Scripted(Writer):
    """Replies from a JSON file: ``{"<fact>/<attempt>": text}``; missing ones are empty, ``REFUSED…`` is a refusal.

    Args:
        folder: Folder of ``replies.json``; requests are appended to ``asked.jsonl``, one line each.
        breaks: Number of requests after which it crashes; ``None`` for never.
        max_requests: As for any writer.
        max_total_tokens: As for any writer; each reply counts 10.
    """

    unkeyed_options: ClassVar[tuple[str, ...]] = ("folder", "breaks", "max_requests", "max_total_tokens")

    def __init__(
        self, *, folder: str, breaks: int | None, max_requests: int | None, max_total_tokens: int | None
    ) -> None:
        self._folder, self._breaks = Path(folder), breaks
        self.max_requests, self.max_total_tokens = max_requests, max_total_tokens

    def write(
        self, asks: Sequence[GenerationRequest], *, load_facts: LoadFacts, should_continue: ShouldContinue
    ) -> Iterator[GenerationResponse]:
        replies = json.loads((self._folder / "replies.json").read_text())
        for done, ask in enumerate(asks):
            if not should_continue():
                return
            if done == self._breaks:
                raise RuntimeError("the writer fell over")
            name = f"{ask.fact.id}/{ask.attempt}"
            with (self._folder / "asked.jsonl").open("a") as file:
                told = {
                    "name": name,
                    "count": ask.count,
                    "previous_answers": ask.previous_answers,
                    "model_answer": ask.model_answer,
                }
                file.write(json.dumps(told) + "\n")
            text = replies.get(name, "")
            said = {"text": "", "refused": text} if text.startswith("REFUSED") else {"text": text}
            yield GenerationResponse(
                fact=ask.fact.id, attempt=ask.attempt, prompt_tokens=7, completion_tokens=3, requests=1, **said
            )
