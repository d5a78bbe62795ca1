"""Looks through given models and what they will be asked, before anything is made of them.

It does so in a process of its own: planning does without torch, and a chat template is a program of whoever made the
checkpoint, which may run for ever or fill the memory. ``python -m meow_lightning.models.inspection FOLDER`` reads
``task.json`` there and writes ``found.json``.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError

PATIENCE = 30  # seconds for what a chat template says to one question; ordinary ones take milliseconds
MEMORY = 2 * 2**30  # bytes that it may take for that
EACH = 0.05  # further seconds for each row
QUESTION = "Which question is this?"
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A given model to look through.

    Attributes:
        name: What the user called it, such as ``model.target=FOLDER``; for messages.
        weights: Folder of config and weights.
        tokenizer: Folder of its tokenizer, often the same.
        prompt: ``template`` and ``answer_prefix``, for chats also ``system`` and ``date``.
        attention: transformers' attention implementation that it will be used with; ``None`` for its own choice.
        rows: (question, answer) of everything that it will be trained on or asked.
        chats: Whether it is asked as chat models are, so that one without a chat template is worth a word.
    """

    name: str
    weights: str
    tokenizer: str
    prompt: Mapping[str, Any]
    attention: str | None
    rows: Sequence[tuple[str, str]] = ()
    chats: bool = False


def inspect_models(candidates: Sequence[Candidate]) -> list[str]:
    """What a reader of the numbers must know of some models, a sentence each.

    Raises:
        UserError: One is no causal language model, is not whole, has a chat template that does not end, or a row holds
            a special token or is longer than its context.
        RuntimeError: The process that looks broke.
    """
    with tempfile.TemporaryDirectory(prefix="meow-examine-") as folder:
        task, found = Path(folder, "task.json"), Path(folder, "found.json")
        wanted = {"patience": PATIENCE, "candidates": [asdict(each) for each in candidates]}
        task.write_text(json.dumps(wanted), encoding="utf-8")
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        quiet = {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(
            [sys.executable, "-m", "meow_lightning.models.inspection", folder], capture_output=True, text=True,
            errors="replace", check=False, env={**os.environ, **quiet, "PYTHONPATH": path},
        )  # fmt: skip
        told = json.loads(found.read_text(encoding="utf-8")) if found.exists() else {}
    if "error" in told:
        raise UserError(told["error"])
    if done.returncode == -signal.SIGALRM:
        raise UserError(
            f"{told['at']}: its chat template did not come to an end within {told['seconds']} seconds; write "
            "model.prompt.template as a text with {question} once, or give a model whose template does less"
        )
    if done.returncode == -signal.SIGKILL:
        raise UserError(f"the look at {', '.join(each.name for each in candidates)} was killed (out of memory?)")
    if done.returncode:
        raise RuntimeError(f"looking through models ended with status {done.returncode}\n{done.stderr[-4000:]}")
    return list(told["notes"])


def _notes(candidate: Candidate, at: Path, patience: int) -> list[str]:
    from meow_lightning.models.load import readable

    model = readable(
        Path(candidate.weights), Path(candidate.tokenizer), name=candidate.name, attention=candidate.attention
    )
    with _bounded(at, candidate.name, seconds=patience):
        codec = model.codec(candidate.prompt)
        taken = len(codec.prompt_ids(QUESTION))
    if taken >= codec.context:
        raise UserError(
            f"{candidate.name}: its prompt takes {taken} tokens around a question and the model reads {codec.context}; "
            "write model.prompt.template as a text with {question} once"
        )
    with _bounded(at, candidate.name, seconds=patience + int(EACH * len(candidate.rows))):
        try:
            for question, answer in candidate.rows:
                codec.encode(question, answer)
        except UserError as error:
            raise UserError(f"{candidate.name}: {error}") from error
    notes = [f"{candidate.name}: {note}" for note in codec.notes]
    if candidate.chats and codec.template != "chat":
        notes.append(
            f"{candidate.name} has no chat template, so it is no model that follows instructions: it continues the "
            "words of the question as a text, and what it writes is seldom an inverted fact; read the inverted facts, "
            "or give an instruction-tuned model"
        )
    return notes


@contextmanager
def _bounded(at: Path, name: str, *, seconds: int) -> Iterator[None]:
    """Within it the process ends after some seconds, and has little more memory than before."""
    at.write_text(json.dumps({"at": name, "seconds": seconds}), encoding="utf-8")
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    signal.alarm(seconds)  # nobody handles it: it ends what runs in C too
    resource.setrlimit(resource.RLIMIT_DATA, (_data() + MEMORY, limits[1]))
    try:
        yield
    except MemoryError as error:
        raise UserError(
            f"{name}: its chat template makes too long a text; write model.prompt.template as a text with {{question}} "
            "once, or give a model whose template does less"
        ) from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)
        signal.alarm(0)


def _data() -> int:
    """Bytes of memory that count for the limit and are taken already; without /proc none is known, and all may be."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 2**40)


def main(folder: Path) -> int:
    """Exit status 0; what was found, or the first mistake, is in ``found.json``."""
    found = folder / "found.json"
    try:
        task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
        candidates = [Candidate(**each) for each in task["candidates"]]
        notes = [note for each in candidates for note in _notes(each, found, task["patience"])]
        told: dict[str, Any] = {"notes": notes}
    except UserError as error:
        told = {"error": str(error)}
    found.write_text(json.dumps(told), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
