"""Inverted facts from a file written by a person, an external LLM or an earlier run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from meow_lightning.data.jsonl_reader import read_entries
from meow_lightning.errors import UserError
from meow_lightning.inversion.base import GenerationRequest, GenerationResponse, LoadFacts, ShouldContinue, Writer
from meow_lightning.inversion.reply_parser import answers
from meow_lightning.types import Fact


class File(Writer):
    """Writer that reads contradicting answers from a file, matched by question.

    The file contains JSON lines or one JSON list; each entry has ``question`` and either ``answers`` (a list), or
    ``answer_0``, ``answer_1`` … as in MEOW's published data, or one ``answer``, as in ``inverted.jsonl`` of an earlier
    run; entries with the same question are merged. A question missing from the file gets no answer.

    Args:
        path: Path of the file.
    """

    unkeyed_options: ClassVar[tuple[str, ...]] = ("path",)  # its content enters the key
    can_retry: ClassVar[bool] = False

    def __init__(self, *, path: str) -> None:
        self.path = path
        self._answers: dict[str, list[str]] = {}
        for entry in _entries(Path(path)):
            self._answers.setdefault(entry["question"].strip(), []).extend(_candidates(entry))

    def write(
        self, requests: Sequence[GenerationRequest], *, load_facts: LoadFacts, should_continue: ShouldContinue
    ) -> Iterator[GenerationResponse]:
        """Yield the file's answers to each request."""
        for request in requests:
            texts = self.invert(request.fact)
            refused = "" if texts else f"{self.path} does not contain this question"
            yield GenerationResponse(
                fact=request.fact.id, attempt=request.attempt, answers=tuple(texts), refused=refused
            )

    def invert(self, fact: Fact) -> list[str]:
        """Return the file's answers to the fact's question, without numbering, labels and remarks."""
        raw = self._answers.get(fact.question.strip(), [])
        parsed = answers("\n".join(" ".join(answer.split("\n")) for answer in raw))
        return [*parsed, *[""] * (len(raw) - len(parsed))]  # items that are not answers count as blank


def _candidates(entry: dict[str, Any]) -> list[str]:
    if isinstance(entry.get("answer"), str):
        return [entry["answer"]]
    if "answers" in entry:
        return [str(answer) for answer in entry["answers"]]
    numbered = [key for key in entry if key.startswith("answer_") and key.removeprefix("answer_").isdigit()]
    return [str(entry[key]) for key in sorted(numbered, key=lambda key: int(key.removeprefix("answer_")))]


def _entries(path: Path) -> list[dict[str, Any]]:
    entries = read_entries(path, option="inversion.path", holds="a question and its answers")
    for number, entry in entries:
        if not isinstance(entry.get("question"), str):
            raise UserError(f"{path}, entry {number}: no `question`; each entry needs `question` and `answers`")
        if not isinstance(entry.get("answers", []), list) or not _candidates(entry):
            raise UserError(f"{path}, entry {number}: no answers; add `answers` (a list), or `answer_0`, `answer_1` …")
    return [entry for _, entry in entries]
