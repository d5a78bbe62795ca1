"""A writer of inverted facts for tests: says what a file says, and notes in another what it was asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from meow_lightning.inversion.base import GenerationRequest, GenerationResponse, GoOn, Others, Writer


class Scripted(Writer):
    """Replies from a JSON file: ``{"<fact>/<attempt>": text}``; a missing one is empty, ``REFUSED…`` a refusal.

    Args:
        folder: Holds ``replies.json``; gets ``asked.jsonl``, a line per question.
        breaks: Questions after which it falls over; ``None`` for never.
        calls: As for any writer.
        tokens: As for any writer; each reply counts 10.
    """

    aside: ClassVar[tuple[str, ...]] = ("folder", "breaks", "calls", "tokens")

    def __init__(self, *, folder: str, breaks: int | None, calls: int | None, tokens: int | None) -> None:
        self._folder, self._breaks = Path(folder), breaks
        self.calls, self.tokens = calls, tokens

    def write(self, asks: Sequence[GenerationRequest], *, others: Others, go_on: GoOn) -> Iterator[GenerationResponse]:
        replies = json.loads((self._folder / "replies.json").read_text())
        for done, ask in enumerate(asks):
            if not go_on():
                return
            if done == self._breaks:
                raise RuntimeError("the writer fell over")
            name = f"{ask.fact.id}/{ask.attempt}"
            with (self._folder / "asked.jsonl").open("a") as file:
                told = {"name": name, "count": ask.count, "tried": ask.tried, "said": ask.said}
                file.write(json.dumps(told) + "\n")
            text = replies.get(name, "")
            said = {"text": "", "refused": text} if text.startswith("REFUSED") else {"text": text}
            yield GenerationResponse(
                fact=ask.fact.id, attempt=ask.attempt, prompt_tokens=7, reply_tokens=3, requests=1, **said
            )
