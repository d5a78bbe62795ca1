"""``python -m meow_lightning.memo``: MEMO of every answer in a file of MEOW's published form."""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NoReturn

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from meow_lightning.data.lines import read_entries
from meow_lightning.memo import published
from meow_lightning.memo.measure import BATCHES_PER_CHUNK, Profile, Text, measure
from meow_lightning.memo.score import ROUGES
from meow_lightning.memo.windows import MODES, one_of
from meow_lightning.models.given import check
from meow_lightning.models.source import locate, parse
from meow_lightning.types import ScoredText, UserError

CONF = Path(__file__).resolve().parents[2] / "conf" / "memo"
BUDGET = 200  # tokens; the published one, where a profile leaves it to the model of a run
SLOTS = 32
SAY_EVERY = 20.0  # seconds between two lines where no bar can be drawn
PROMPT = ("template", "lead", "system", "date")
DEVICES = ("cpu", "cuda", "auto")
ABOUT = """\
Scores how strongly a model holds each answer of a file (MEMO). The file is a JSON list, or JSON lines, of objects with
question, undesired_answer (the true one), answer_0, answer_1, ...; the result is a list of the same objects with
<key>_rouge1 beside each answer. Computed in fp32, greedily. A stopped command goes on when it is given again."""


class _Parser(argparse.ArgumentParser):
    """Tells a mistake the way everything here does: one line, no usage before it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; python -m meow_lightning.memo --help lists the options")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line's options."""
    parser = _Parser(prog="python -m meow_lightning.memo", description=ABOUT, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--model", required=True, help="folder with config.json, safetensors and tokenizer; or a name on the hub")
    add("--facts", required=True, type=Path, help="the file to be scored")
    add("--out", required=True, type=Path, help="where the scored file goes")
    add("--profile", default="official", help="how to measure: a file of conf/memo (default: official, as published)")
    add("--mode", help="suffix: cut the answer; prefix: cut the question (default: the profile's)")
    add("--rouge", help="rouge1, rouge2 or rougeL; ends the new keys (default: the profile's)")
    add("--max-new-tokens", type=int, help=f"most tokens said per window (default: the profile's, else {BUDGET})")
    add("--template", help="for profiles with a prompt: text with {question}, chat, or auto (default: auto)")
    add("--lead", help="for profiles with a prompt: what stands between it and the answer (default: nothing)")
    add("--system", help="for chat templates: the system message (default: none)")
    add("--date", help="for chat templates that ask for the day (default: none)")
    add("--slots", type=int, default=SLOTS, help=f"prompts side by side; speed and memory only (default: {SLOTS})")
    add("--device", default="auto", help="cpu, cuda or auto (default: auto)")
    add("--skip-short", action="store_true", help="null for answers too short to be cut, instead of an error")
    add("--overwrite", action="store_true", help="replace the scored file if it is there")
    found = parser.parse_args(arguments)
    one_of(found.device, DEVICES, option="--device")
    for option in ("slots", "max_new_tokens"):
        value = getattr(found, option)
        if value is not None and value < 1:
            raise UserError(f"--{option.replace('_', '-')}={value} is too small; allowed: from 1")
    return found


def _profile_of(chosen: argparse.Namespace) -> Profile:
    """The profile of that name in ``conf/memo``, with what the command line says otherwise."""
    one_of(chosen.profile, sorted(path.stem for path in CONF.glob("*.yaml")), option="--profile")
    values = yaml.safe_load((CONF / f"{chosen.profile}.yaml").read_text(encoding="utf-8"))
    known = {field.name for field in fields(Profile)}
    if not isinstance(values, dict) or set(values) != known:
        raise UserError(f"--profile={chosen.profile}: its file must hold exactly {', '.join(sorted(known))}")
    if chosen.max_new_tokens is not None or "${" in str(values["max_new_tokens"]):
        values["max_new_tokens"] = chosen.max_new_tokens or BUDGET
    for key, value in values.items():
        if "${" in str(value):
            raise UserError(f"--profile={chosen.profile}: {key}={value} is known within a run only; write its value")
    for key, allowed in (("mode", MODES), ("rouge", ROUGES)):
        if getattr(chosen, key) is not None:
            values[key] = one_of(getattr(chosen, key), allowed, option=f"--{key}")
    profile = Profile(**values)
    if (unused := [key for key in PROMPT if getattr(chosen, key) is not None]) and not _templated(profile):
        raise UserError(
            f"--{unused[0]} has no effect with profile {profile.name} in mode {profile.mode}, which shows raw text; "
            "leave it out, or take --profile clean --mode suffix"
        )
    return profile


def _prompt(chosen: argparse.Namespace, profile: Profile) -> dict[str, str | None]:
    """What the codec is to know of the prompt; nothing of a chat template where raw text is shown."""
    if not _templated(profile):
        return {"template": "{question}", "lead": "", "system": None, "date": None}
    said = {key: getattr(chosen, key) for key in PROMPT}
    return said | {"template": said["template"] or "auto", "lead": said["lead"] or ""}


def _templated(profile: Profile) -> bool:
    return profile.template and profile.mode == "suffix"


def _model(source: str) -> Path:
    """The folder of the model, fetched from the hub where that is what ``source`` names, and looked through."""
    found = parse("--model", source, words=())
    folder = locate(found, weights=True, fetch=True)
    try:
        check("--model", folder, folder)
    except UserError as error:  # this command takes the tokenizer beside the weights
        raise UserError(re.sub(r"say model.tokenizer=FOLDER.*", "put the right one into it", str(error))) from error
    return folder


def _check_out(out: Path, *, overwrite: bool) -> None:
    """Nothing, when the file may be written."""
    if out.is_dir():
        raise UserError(f"--out={out} is a folder; give a file in it, such as {out / 'scored.json'}")
    if out.exists() and not overwrite:
        raise UserError(f"--out={out} is there already; give another name, or say --overwrite")
    if not out.parent.is_dir():
        raise UserError(f"--out={out}: its folder is missing; make it first, or give another")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise UserError(f"--out={out}: its folder cannot be written to; give another")


class _Out:
    """The scored file and, until it is whole, the finished texts beside it."""

    def __init__(self, *, path: Path, head: Mapping[str, Any]) -> None:
        self._path, self._part, self._head = path, path.with_name(f"{path.name}.part"), head
        with self._writing():
            content = self._part.read_bytes() if self._part.exists() else b""
        lines = content[: content.rfind(b"\n") + 1].decode(errors="replace").splitlines()
        self.scored = published.from_part(lines, head=head, source=str(self._part))
        if lines and not content.endswith(b"\n"):
            with self._writing():  # a kill cut its last line off
                self._part.write_text("\n".join([*lines, ""]), encoding="utf-8")
        self._begun = bool(lines)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"--out={self._path} cannot be written ({error.strerror}); mend that, and the same command goes on"
            ) from error

    def add(self, scored: Sequence[ScoredText]) -> None:
        """Keep finished texts."""
        with self._writing(), self._part.open("a" if self._begun else "w", encoding="utf-8") as file:
            file.write(published.part(scored, head=None if self._begun else self._head))
        self._begun = True
        self.scored += scored

    def finish(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Write the scored file, whole or not at all."""
        side = self._path.with_name(f"{self._path.name}.tmp")
        with self._writing():
            side.write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            side.replace(self._path)
            self._part.unlink(missing_ok=True)


@contextmanager
def _watch(*, before: int, total: int) -> Iterator[Callable[[int], None]]:
    """Takes how many windows are done: on a terminal a bar with the time left, else a line now and then (stderr)."""
    console, start = _console(stderr=True), time.monotonic()
    columns = (TextColumn("windows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    said = start

    def tell(done: int) -> None:
        nonlocal said
        bar.update(task, completed=done)
        now = time.monotonic()
        if not console.is_terminal and now - said > SAY_EVERY:
            said = now
            left = (now - start) / (done - before) * (total - done)
            console.print(f"  … {done} of {total} windows, about {left / 60:.1f} min left")

    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, completed=before)
        yield tell


def _console(*, stderr: bool) -> Console:
    return Console(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)


def _load(chosen: argparse.Namespace, profile: Profile) -> tuple[Any, Any]:
    """The model in fp32 on its device, and its codec."""
    import torch
    from safetensors import SafetensorError
    from transformers.utils.logging import disable_progress_bar

    from meow_lightning.models.load import load_codec, load_model

    if not _console(stderr=True).is_terminal:
        disable_progress_bar()
    there = torch.cuda.is_available()
    if chosen.device == "cuda" and not there:
        raise UserError("--device=cuda, but torch sees no GPU; say --device cpu, or install a CUDA build")
    try:
        model = load_model(chosen.model, dtype="float32", attention="sdpa").eval()
        codec = load_codec(chosen.model, prompt=_prompt(chosen, profile), model=model)
        model = model.to("cuda" if there and chosen.device != "cpu" else "cpu")
    except UserError as error:
        raise UserError(str(error).replace("model.prompt.", "--")) from error
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise UserError(f"--model={chosen.model} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    return model, codec


def _score(chosen: argparse.Namespace, profile: Profile, wanted: Sequence[Text], out: _Out) -> None:
    """Measure what is missing."""
    import torch

    model, codec = _load(chosen, profile)
    measuring = functools.partial(measure, model, codec, profile=profile, slots=chosen.slots, done=())
    measuring(wanted, progress=None)  # refuses prompts that cannot fit before hours of work
    there = {(text.fact, text.kind, text.position) for text in out.scored}
    done = published.windows((text for text in wanted if text[:3] in there), profile)
    with _watch(before=done, total=published.windows(wanted, profile)) as tell:
        for chunk in published.chunks(wanted, profile, least=chosen.slots * BATCHES_PER_CHUNK):
            missing = [text for text in chunk if text[:3] not in there]
            try:
                out.add(list(measuring(missing, progress=lambda now, _, __, before=done: tell(before + now))))
            except torch.OutOfMemoryError as error:
                fewer = max(chosen.slots // 2, 1)
                raise UserError(f"--slots={chosen.slots} needs too much memory; --slots {fewer} goes on") from error
            done += published.windows(missing, profile)


def _head(chosen: argparse.Namespace, profile: Profile) -> dict[str, Any]:
    """What results depend on."""
    return {
        "model": str(chosen.model),
        "weights": max(path.stat().st_mtime_ns for path in chosen.model.glob("*.safetensors")),
        "profile": asdict(profile),
        "prompt": _prompt(chosen, profile),
        "facts": hashlib.sha256(chosen.facts.read_bytes()).hexdigest(),
    }


def _run(chosen: argparse.Namespace) -> None:
    """Score the file that the options name."""
    profile = _profile_of(chosen)
    entries = read_entries(chosen.facts, option="--facts", holds=published.HOLDS)
    asked = {"mode": profile.mode, "skip_short": chosen.skip_short}
    wanted = published.texts(entries, source=f"--facts={chosen.facts}", **asked)
    chosen.model = _model(chosen.model)
    _check_out(chosen.out, overwrite=chosen.overwrite)
    out, start = _Out(path=chosen.out, head=_head(chosen, profile)), time.monotonic()
    found = len(out.scored)
    if len(wanted) > found:
        _score(chosen, profile, wanted, out)
    out.finish(published.with_scores(entries, out.scored, mode=profile.mode, rouge=profile.rouge))
    cuts = published.windows(wanted, profile)
    lines = [f"{len(wanted)} texts, {cuts} windows in {time.monotonic() - start:.1f} s"]
    lines += [f"{found} of the texts were found in {chosen.out}.part"] * (found > 0)
    _console(stderr=False).print("\n".join([*lines, *published.means(out.scored), f"written: {chosen.out}"]))


def main(arguments: Sequence[str]) -> int:
    """The exit status of the command: 0, 1 after a mistake (told in one line), 130 after CTRL-C."""
    try:
        _run(_options(arguments))
    except UserError as error:
        _console(stderr=True).print(f"error: {' '.join(str(error).split())}")
        return 1
    except KeyboardInterrupt:
        _console(stderr=True).print("stopped; the same command goes on")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
