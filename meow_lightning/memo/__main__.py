"""Command ``meow-lightning memo``: MEMO of every answer in a file of MEOW's published format.

Also ``python -m meow_lightning.memo``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from meow_lightning.data.jsonl_reader import read_entries
from meow_lightning.errors import UserError
from meow_lightning.memo import meow_format
from meow_lightning.memo.cli_options import as_flags, measure_of, options, prompt_of, score_suffix
from meow_lightning.memo.measure import BATCHES_PER_CHUNK, Text, score_texts
from meow_lightning.models.checkpoint import check, format_of
from meow_lightning.models.inspection import Candidate, inspect_models
from meow_lightning.models.sources import locate, parse
from meow_lightning.resources.throughput import Throughput
from meow_lightning.store.durable import checked_lines, drop_partial_last_line
from meow_lightning.types import ScoredText

if TYPE_CHECKING:
    from argparse import Namespace

    from meow_lightning.memo.baselines import Extraction, Memorization
    from meow_lightning.memo.memo import Profile

    By = Profile | Memorization | Extraction
PROGRESS_INTERVAL = 20.0  # seconds between progress lines without a terminal


def _model(source: str) -> Path:
    """Resolve and check the model's folder, downloading it from the hub if ``source`` is a hub name."""
    parsed = parse("--model", source, words=())
    folder = locate(parsed, weights=True, fetch=True)
    try:
        check("--model", folder, folder)
    except UserError as error:  # this command uses the tokenizer next to the weights
        raise UserError(
            re.sub(r"set model.tokenizer to .*", "replace the tokenizer files in it", str(error))
        ) from error
    return folder


def _inspect_template(chosen: Namespace, by: By) -> None:
    """Check a chat template in a separate process, since it may never return; loading finds other problems."""
    prompt = prompt_of(chosen, by)
    if prompt["template"] not in ("chat", "auto") or not format_of(chosen.model).has_chat_template(chosen.model):
        return
    folder = str(chosen.model)
    candidate = Candidate(name=f"--model={folder}", weights=folder, tokenizer=folder, prompt=prompt, attention="sdpa")
    try:
        notes = inspect_models([candidate])
    except UserError as error:
        raise UserError(as_flags(str(error))) from error
    for note in notes:
        _console(stderr=True).print(f"note: {note}")


def _check_out(out: Path, *, overwrite: bool) -> None:
    """Check that the output file may be written."""
    if out.is_dir():
        raise UserError(f"--out={out} is a folder; give a file in it, such as {out / 'scored.json'}")
    if out.exists() and not overwrite:
        raise UserError(f"--out={out} already exists; give another name or add --overwrite")
    if not out.parent.is_dir():
        raise UserError(f"--out={out}: its folder does not exist; create it or give another")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise UserError(f"--out={out}: its folder is not writable; give another")


class _Out:
    """Output file and, until it is complete, the partial file of finished texts next to it."""

    def __init__(self, *, path: Path, head: Mapping[str, Any]) -> None:
        self._path, self._part, self._head = path, path.with_name(f"{path.name}.part"), head
        with self._writing():
            rows, damaged = checked_lines(self._part)
        headless = bool(rows) and "windows" in rows[0]  # no header: the settings of its texts are unknown
        if rows and (damaged or headless):
            _console(stderr=True).print(f"{damaged} lines of {self._part} are damaged; their texts are scored again")
            rows, damaged = [] if headless else rows, 0
        self.scored = meow_format.from_part(rows, damaged=damaged, head=head, source=str(self._part))
        self._begun = bool(rows)
        if rows:
            with self._writing():
                drop_partial_last_line(self._part)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"--out={self._path} cannot be written ({error.strerror}); fix that and repeat the command to resume"
            ) from error

    def add(self, scored: Sequence[ScoredText]) -> None:
        """Append finished texts to the partial file."""
        with self._writing(), self._part.open("a" if self._begun else "w", encoding="utf-8") as file:
            file.write(meow_format.part(scored, head=None if self._begun else self._head))
        self._begun = True
        self.scored += scored

    def finish(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Write the output file atomically."""
        side = self._path.with_name(f"{self._path.name}.tmp")
        with self._writing():
            side.write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            side.replace(self._path)
            self._part.unlink(missing_ok=True)


@contextmanager
def _progress_bar(*, before: int, total: int) -> Iterator[Callable[[int], None]]:
    """Provide a progress callback for windows: a bar with ETA on a terminal, else occasional lines (stderr)."""
    console, last_printed, pace = _console(stderr=True), time.monotonic(), Throughput()
    columns = (TextColumn("windows"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))

    def update(done: int) -> None:
        nonlocal last_printed
        now = time.monotonic()
        pace.add(now, done)
        rate = pace.rate()
        left = "…" if rate is None else f"about {(total - done) / rate / 60:.1f} min left"
        bar.update(task, completed=done, left=left)
        if not console.is_terminal and now - last_printed > PROGRESS_INTERVAL and done < total:
            last_printed = now
            console.print(f"  … {done} of {total} windows, {'time left unknown' if rate is None else left}")

    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, completed=before, left="…")
        yield update


def _console(*, stderr: bool) -> Console:
    return Console(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)


def _load(chosen: Namespace, by: By) -> tuple[Any, Any]:
    """Load the model in fp32 on its device, and its codec."""
    import torch
    from safetensors import SafetensorError
    from transformers.utils.logging import disable_progress_bar

    from meow_lightning.models.load import load_codec, load_model

    if not _console(stderr=True).is_terminal:
        disable_progress_bar()
    has_gpu = torch.cuda.is_available()
    if chosen.device == "cuda" and not has_gpu:
        raise UserError(
            "--device=cuda is invalid: torch finds no GPU; use --device cpu or install a CUDA build of torch"
        )
    try:
        model = load_model(chosen.model, dtype="float32", attention="sdpa").eval()
        codec = load_codec(chosen.model, prompt=prompt_of(chosen, by), model=model)
        model = model.to("cuda" if has_gpu and chosen.device != "cpu" else "cpu")
    except UserError as error:
        raise UserError(as_flags(str(error))) from error
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise UserError(f"--model={chosen.model} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    return model, codec


def _score(chosen: Namespace, by: By, loaded: tuple[Any, Any], requested: Sequence[Text], out: _Out) -> None:
    """Score the texts that are not finished yet."""
    from meow_lightning.generation.batch_size import AdaptiveBatchSize, short_of_memory

    model, codec = loaded
    batch_size = AdaptiveBatchSize(chosen.generation_batch_size, note=_console(stderr=True).print)
    score = functools.partial(score_texts, model, codec, by=by, slots=batch_size, done=(), alone=None)
    score(requested, progress=None)  # reject prompts that do not fit before hours of work
    count = functools.partial(meow_format.windows, by=by, codec=codec)
    scored_keys = {(text.fact, text.kind, text.position) for text in out.scored}
    done = count([text for text in requested if text[:3] in scored_keys])
    with _progress_bar(before=done, total=count(requested)) as update:
        for chunk in meow_format.chunks(
            requested, by=by, codec=codec, least=chosen.generation_batch_size * BATCHES_PER_CHUNK
        ):
            missing = [text for text in chunk if text[:3] not in scored_keys]
            try:
                out.add(list(score(missing, progress=lambda now, _, __, before=done: update(before + now))))
            except (RuntimeError, MemoryError) as error:
                if not short_of_memory(error):
                    raise
                raise UserError(
                    "a single prompt does not fit into memory; use --device cpu or a smaller model"
                ) from error
            done += count(missing)


def _head(chosen: Namespace, by: By) -> dict[str, Any]:
    """Collect the settings that the results depend on."""
    return {
        "model": str(chosen.model),
        "weights": max(path.stat().st_mtime_ns for path in chosen.model.glob("*.safetensors")),
        "profile": asdict(by),
        "prompt": prompt_of(chosen, by),
        "facts": hashlib.sha256(chosen.facts.read_bytes()).hexdigest(),
    }


def _run(chosen: Namespace) -> None:
    """Score the file given by the options."""
    by = measure_of(chosen)
    entries = read_entries(chosen.facts, option="--facts", holds=meow_format.HOLDS)
    entries = meow_format.normalize_entries(entries, source=f"--facts={chosen.facts}")
    read_texts = functools.partial(
        meow_format.texts, entries, source=f"--facts={chosen.facts}", skip_short=chosen.skip_short
    )
    loading = functools.cache(lambda: _load(chosen, by))
    # Report errors in the file before loading a model.
    requested = read_texts(by=None if by.needs_codec else by, codec=None)
    chosen.model = _model(chosen.model)
    _check_out(chosen.out, overwrite=chosen.overwrite)
    _inspect_template(chosen, by)
    out, start = _Out(path=chosen.out, head=_head(chosen, by)), time.monotonic()
    if by.needs_codec:
        requested = read_texts(by=by, codec=loading()[1])
    resumed = len(out.scored)
    for text in requested if len(requested) > resumed else ():
        loading()[1].check_spelling(text.question, text.answer)
    if len(requested) > resumed:
        _score(chosen, by, loading(), requested, out)
    out.finish(meow_format.with_scores(entries, out.scored, requested=requested, suffix=score_suffix(by)))
    cuts = sum(len(text.windows) for text in out.scored)
    lines = [f"{len(requested)} texts, {cuts} windows in {time.monotonic() - start:.1f} s"]
    lines += [f"{resumed} of the texts were resumed from {chosen.out}.part"] * (resumed > 0)
    _console(stderr=False).print("\n".join([*lines, *meow_format.means(out.scored), f"written: {chosen.out}"]))


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status: 0, 1 after an error (one line), 130 after CTRL-C."""
    try:
        _run(options(arguments))
    except UserError as error:
        _console(stderr=True).print(f"error: {as_flags(' '.join(str(error).split()))}")
        return 1
    except KeyboardInterrupt:
        _console(stderr=True).print("stopped; repeat the command to resume")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
