"""Inspection of provided models and their inputs before anything is computed.

Runs in a separate process: planning does not import torch, and a chat template is a program by the checkpoint's author,
which may not terminate or fill the memory. ``python -m meow_lightning.models.inspection FOLDER`` reads ``task.json``
there and writes ``result.json``.
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
from meow_lightning.types import Segments

TEMPLATE_SECONDS = 30  # for rendering a chat template with one question; ordinary ones take milliseconds
TEMPLATE_MEMORY = 2 * 2**30  # bytes available to it
ROW_SECONDS = 0.05  # additional, per row
SHOWN = 400  # characters shown of a prompt or an answer
QUESTION = "Which question is this?"
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A provided model to inspect.

    Attributes:
        name: The model as the user named it, such as ``model.target=FOLDER``; for messages.
        weights: Folder of config and weights.
        tokenizer: Folder of its tokenizer, often the same.
        prompt: ``template`` and ``answer_prefix``, for chats also ``system`` and ``date``.
        attention: The attention implementation of transformers to use; ``None`` for its default.
        rows: Segments of everything that it will be trained on or prompted with.
        chats: Whether it is prompted as a chat model; a missing chat template then gives a note.
        shown: Segments to describe in a note as the model reads them; ``None`` for none.
        budget: ``evaluation.max_new_tokens``; ``None`` for a model that answers no questions.
    """

    name: str
    weights: str
    tokenizer: str
    prompt: Mapping[str, Any]
    attention: str | None
    rows: Sequence[Segments] = ()
    chats: bool = False
    shown: Segments | None = None
    budget: int | None = None


def inspect_models(candidates: Sequence[Candidate]) -> list[str]:
    """Inspect models and return notes for readers of the results, one sentence each.

    Raises:
        UserError: A model is not a causal language model, is incomplete, has a chat template that does not terminate,
            or a row contains a special token or exceeds its context.
        RuntimeError: The inspecting process crashed.
    """
    with tempfile.TemporaryDirectory(prefix="meow-inspect-") as folder:
        task, output = Path(folder, "task.json"), Path(folder, "result.json")
        request = {"seconds": TEMPLATE_SECONDS, "candidates": [asdict(candidate) for candidate in candidates]}
        task.write_text(json.dumps(request), encoding="utf-8")
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        quiet = {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
        process = subprocess.run(
            [sys.executable, "-m", "meow_lightning.models.inspection", folder], capture_output=True, text=True,
            errors="replace", check=False, env={**os.environ, **quiet, "PYTHONPATH": path},
        )  # fmt: skip
        result = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    if "error" in result:
        raise UserError(result["error"])
    if process.returncode == -signal.SIGALRM:
        raise UserError(
            f"{result['model']}: its chat template did not terminate within {result['seconds']} seconds; set "
            "model.prompt.template to a text with {question} once, or use a model with a simpler template"
        )
    if process.returncode == -signal.SIGKILL:
        raise UserError(
            f"inspecting {', '.join(candidate.name for candidate in candidates)} was killed (out of memory?)"
        )
    if process.returncode:
        raise RuntimeError(f"inspecting models ended with status {process.returncode}\n{process.stderr[-4000:]}")
    return list(result["notes"])


def _notes(candidate: Candidate, output: Path, seconds: int) -> list[str]:
    from meow_lightning.models.load import read_model_files

    model = read_model_files(
        Path(candidate.weights), Path(candidate.tokenizer), name=candidate.name, attention=candidate.attention
    )
    with _bounded(output, candidate.name, seconds=seconds):
        codec = model.codec(candidate.prompt)
        tokens = len(codec.prompt_ids(QUESTION))
    if tokens >= codec.context:
        raise UserError(
            f"{candidate.name}: its prompt with a short question takes {tokens} tokens and the model's context is "
            f"{codec.context}; set model.prompt.template to a text with {{question}} once"
        )
    with _bounded(output, candidate.name, seconds=seconds + int(ROW_SECONDS * len(candidate.rows))):
        try:
            prompts = [codec.encode(*row).prompt for row in candidate.rows]
        except UserError as error:
            raise UserError(f"{candidate.name}: {error}") from error
    notes = [f"{candidate.name}: {note}" for note in codec.notes]
    if candidate.chats and codec.template != "chat":
        notes.append(
            f"{candidate.name} has no chat template, so it does not follow instructions: it continues the question as "
            "text and seldom writes what it is asked for; check its texts, or use an instruction-tuned model"
        )
    left = codec.context - max(prompts, default=tokens)
    if candidate.budget is not None and left < candidate.budget:
        notes.append(
            f"{candidate.name} reads {codec.context} tokens, so the longest question leaves {left} for its answer, "
            f"fewer than evaluation.max_new_tokens={candidate.budget}: answers end there"
        )
    if candidate.shown is not None:
        first = codec.encode(*candidate.shown)
        prompt, answer = first.ids[: first.prompt], first.ids[first.prompt :]
        read, learned = (_shown(str(codec.tokenizer.decode(list(ids)))) for ids in (prompt, answer))
        notes.append(f"{candidate.name} reads the first question as {read} and its answer as {learned}")
    return notes


def _shown(text: str) -> str:
    """Quote a text with its special tokens and line breaks visible; of a long one, beginning and end."""
    if len(text) > SHOWN:
        text = f"{text[: SHOWN // 2]} … {text[-SHOWN // 2 :]}"
    return json.dumps(text, ensure_ascii=False)


@contextmanager
def _bounded(output: Path, name: str, *, seconds: int) -> Iterator[None]:
    """Limit the time and the additional memory of the process within the context."""
    output.write_text(json.dumps({"model": name, "seconds": seconds}), encoding="utf-8")
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    signal.alarm(seconds)  # unhandled on purpose, so that it also interrupts C code
    resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + TEMPLATE_MEMORY, limits[1]))
    try:
        yield
    except MemoryError as error:
        raise UserError(
            f"{name}: its chat template runs out of memory; set model.prompt.template to a text with {{question}} "
            "once, or use a model with a simpler template"
        ) from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)
        signal.alarm(0)


def _data_bytes() -> int:
    """Return the bytes that already count towards the memory limit; unlimited if unknown (no /proc)."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), 2**40)


def main(folder: Path) -> int:
    """Write notes, or the first error, to ``result.json``; return exit status 0."""
    output = folder / "result.json"
    try:
        task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
        candidates = [Candidate(**fields) for fields in task["candidates"]]
        notes = [note for candidate in candidates for note in _notes(candidate, output, task["seconds"])]
        result: dict[str, Any] = {"notes": notes}
    except UserError as error:
        result = {"error": str(error)}
    output.write_text(json.dumps(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
