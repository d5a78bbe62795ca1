"""Command-line options of ``python -m meow_lightning.memo``, and the measure they select."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import yaml

from meow_lightning.config.files import CONF
from meow_lightning.config.program import program
from meow_lightning.config.quoting import unescape
from meow_lightning.errors import UserError, check_choice, invalid_option
from meow_lightning.memo.baselines import Extraction, Memorization
from meow_lightning.memo.memo import Profile
from meow_lightning.memo.rouge import ROUGES
from meow_lightning.memo.windows import CUT_UNITS, MODES

PROFILES = CONF / "memo"
BUDGET = 200  # published token budget, used if a profile takes it from the run's model
SLOTS = 32
PROMPT = ("template", "answer_prefix", "system", "date")
DEVICES = ("cpu", "cuda", "auto")
# Options that override those of the profile, with their allowed values.
CHANGES = {
    "mode": MODES,
    "cut_unit": CUT_UNITS,
    "stride": None,
    "rouge": ROUGES,
    "max_new_tokens": None,
}
MEASURES = {f"{each.__module__}.{each.__qualname__}": each for each in (Profile, Memorization, Extraction)}
ABOUT = """\
Scores how strongly a model has memorised each answer in a file (MEMO, or the baselines MA and EL). The file is a JSON
list, or JSON lines, of objects with question, undesired_answer (the true one), answer_0, answer_1, ..., as published by
MEOW's authors, or a file for dataset.forget=: question, answer and optionally a list inverted. The result is a list of
the same objects with <key>_rouge1 (_ma, _el1) for each answer. Computed in fp32, greedily. Repeat a stopped command to
resume it."""


class _Parser(argparse.ArgumentParser):
    """Parser that reports errors in one line, without a usage text."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; {self.prog} --help lists the options")


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line and check each option by itself."""
    parser = _Parser(prog=program("memo"), description=ABOUT, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--model", required=True, help="folder with config.json, safetensors and tokenizer; or a name on the hub")
    add("--facts", required=True, type=Path, help="file to score")
    add("--out", required=True, type=Path, help="file to write")
    add(
        "--profile",
        default="official",
        help="clean, official, ma, el: a file of conf/memo (default: official, as published)",
    )
    add("--mode", help="suffix: cut the answer; prefix: cut the question (default: the profile's)")
    add("--cut-unit", help="unit of --stride: characters, words or tokens (default: the profile's)")
    add("--stride", type=int, help="units between two cuts (default: the profile's)")
    add("--rouge", help="rouge1, rouge2 or rougeL; also the suffix of the new keys (default: the profile's)")
    add(
        "--max-new-tokens",
        type=int,
        help=f"maximum tokens generated per window (default: the profile's, else {BUDGET})",
    )
    add(
        "--template",
        type=unescape,
        help=r"for profiles with a prompt: text with {question}, \n for a line break; chat; or auto (default: auto)",
    )
    add(
        "--answer-prefix",
        type=unescape,
        help="for profiles with a prompt: text between it and the answer (default: none)",
    )
    add("--system", type=unescape, help="for chat templates: the system message (default: none)")
    add("--date", help="for chat templates with a date (default: none)")
    add(
        "--generation-batch-size",
        type=int,
        default=SLOTS,
        help=f"prompts per batch; affects only speed and memory (default: {SLOTS})",
    )
    add("--device", default="auto", help="cpu, cuda or auto (default: auto)")
    add("--skip-short", action="store_true", help="store null for answers too short to be cut, instead of an error")
    add("--overwrite", action="store_true", help="replace the scored file if it exists")
    chosen = parser.parse_args(arguments)
    check_choice("--device", chosen.device, DEVICES)
    for option in ("generation_batch_size", "stride", "max_new_tokens"):
        value = getattr(chosen, option)
        if value is not None and value < 1:
            raise invalid_option(f"--{option.replace('_', '-')}", value, "an integer of at least 1", did_you_mean=1)
    return chosen


def as_flags(text: str) -> str:
    """Rename the options of a run in a message to those of this command."""
    pattern = r"\b(?:model\.prompt|memo(?=\.cut_unit=))\.(\w+)"
    return re.sub(pattern, lambda match: f"--{match[1].replace('_', '-')}", text)


def measure_of(chosen: argparse.Namespace) -> Profile | Memorization | Extraction:
    """Build the measure of a profile in ``conf/memo`` with the command line's overrides.

    Raises:
        UserError: The profile does not exist or is invalid, or an option does not apply to it.

    """
    check_choice("--profile", chosen.profile, sorted(path.stem for path in PROFILES.glob("*.yaml")))
    values = yaml.safe_load((PROFILES / f"{chosen.profile}.yaml").read_text(encoding="utf-8"))
    measure_type = MEASURES.get(str(values.get("_target_"))) if isinstance(values, dict) else None
    if measure_type is None:
        raise UserError(f"--profile={chosen.profile}: its file's _target_ must be one of {', '.join(MEASURES)}")
    expected = {field.name for field in fields(measure_type)}
    values = {key: value for key, value in values.items() if key not in ("_target_", "verify")}
    if set(values) != expected:
        raise UserError(f"--profile={chosen.profile}: its file must contain exactly {', '.join(sorted(expected))}")
    _change(values, chosen)
    for key, value in values.items():
        if "${" in str(value):
            raise UserError(f"--profile={chosen.profile}: {key}={value} is defined only within a run; write a value")
    measure = measure_type(**values)
    if (unused := [key for key in PROMPT if getattr(chosen, key) is not None]) and not measure.templated:
        raise UserError(
            f"--{unused[0].replace('_', '-')} has no effect with profile {measure.name} in mode {measure.mode}, which "
            "shows raw text; leave it out, or use --profile clean --mode suffix"
        )
    return measure


def _change(values: dict[str, Any], chosen: argparse.Namespace) -> None:
    """Apply the command line's overrides to a profile's values."""
    if "${" in str(values.get("max_new_tokens")):
        values["max_new_tokens"] = BUDGET
    for key, allowed in CHANGES.items():
        value, option = getattr(chosen, key), f"--{key.replace('_', '-')}"
        if value is None:
            continue
        if key not in values:
            raise UserError(
                f"{option} has no effect with profile {chosen.profile}, which has no {key}; leave it out, or use "
                "--profile clean or --profile official"
            )
        values[key] = value if allowed is None else check_choice(option, value, allowed)


def score_suffix(measure: Profile | Memorization | Extraction) -> str:
    """Return the suffix of the score keys, such as ``rouge1``, ``ma`` or ``el1``."""
    if isinstance(measure, Profile):
        return measure.rouge
    return "ma" if isinstance(measure, Memorization) else f"el{measure.n}"


def prompt_of(chosen: argparse.Namespace, measure: Profile | Memorization | Extraction) -> dict[str, str | None]:
    """Collect the prompt settings for the codec; no chat template if prompts are raw text."""
    if not measure.templated:
        return {"template": "{question}", "answer_prefix": "", "system": None, "date": None}
    given = {key: getattr(chosen, key) for key in PROMPT}
    return given | {"template": given["template"] or "auto", "answer_prefix": given["answer_prefix"] or ""}
