"""``meow-lightning evaluate``: score or write a log in TOFU's published format.

Also ``python -m meow_lightning.evaluation``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, get_args

from meow_lightning.config.program import program
from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics.forget_quality import forget_quality, unpaired_forget_quality
from meow_lightning.evaluation.metrics.model_utility import INPUTS
from meow_lightning.evaluation.metrics.truth_ratio import Mean, row_log_truth_ratio
from meow_lightning.evaluation.predictions import read_rows
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.evaluation.tofu_logs.reader import COLUMNS, PARTS, check_same_log_questions, read_log
from meow_lightning.evaluation.tofu_logs.writer import published_log, write_log
from meow_lightning.types import AnswerRow, Results

NUMBERS = ("model_utility", *INPUTS, "forget/probability", "forget/rouge_l_recall", "forget/truth_ratio")
"""Metrics available from the log of one model, in report order; forget quality needs a second log."""

ROWS_SUFFIX = ".jsonl"
"""Suffix of stored prediction rows; a log is one JSON object."""

DESCRIPTION = """\
Scores an evaluation log in TOFU's published format, which is a matter of arithmetic: no model, no GPU, seconds.
Prints one JSON object with model utility, its nine inputs, the numbers of the forget set and forget quality, each
under both means of the truth ratio:
  geometric   as TOFU's published numbers and open-unlearning have it
  arithmetic  as the equation of the TOFU paper has it

With --write OUT it makes such a log of answers stored by a run, and prints what it holds."""

EPILOG = f"""\
A log is a JSON object of up to four parts:
  {PARTS["forget"]:<33} forget set
  {PARTS["retain"]:<33} retain set
  {PARTS["real_authors"]:<33} real authors
  {PARTS["world_facts"]:<33} world facts
A part is a table, column -> {{row number: value}}, rows from 0, with at least the columns
  {", ".join(COLUMNS)}.
TOFU writes this as eval_log_aggregated.json. What an absent part would give is listed under `missing`.

  %(prog)s unlearned.json --retain retain90.json
  %(prog)s full.json --retain retain95.json --unpaired
  %(prog)s outputs/store/predict/KEY/rows.jsonl --write unlearned.json

Exit status: 0, or 1 with one line `error: ...` and no output, or 2 for a wrong command line."""


def report(log: Path, retain: Path | None, *, unpaired: bool) -> dict[str, Any]:
    """Metrics of a log by truth-ratio mean, missing metrics with reasons, and definitions, as plain JSON values.

    Args:
        log: The evaluated model's log.
        retain: The retain model's log; only its forget part is used, for forget quality.
        unpaired: Whether the two logs may have different forget questions.

    Raises:
        UserError: A file is not a TOFU log, or, unless ``unpaired``, the logs have different forget questions.
    """
    if retain is not None and log.is_file() and retain.is_file() and log.read_bytes() == retain.read_bytes():
        raise UserError(
            f"--retain={retain} holds the same log as LOG: forget quality would compare a model with itself; give the "
            "log of a model that never saw the forget set"
        )
    rows = read_log(log, option="LOG")
    sides = [_forget(rows), _forget(read_log(retain, option="--retain") if retain is not None else [])]
    unmeasured = _unmeasured(log, retain, sides)
    if not unmeasured and not unpaired:
        check_same_log_questions(*sides, names=(str(log), str(retain)))
    output: dict[str, Any] = {"log": str(log), "retain": None if retain is None else str(retain)}
    missing = {"forget_quality": unmeasured} if unmeasured else {}
    definitions: list[dict[str, Any]] = []
    for mean in get_args(Mean):
        results = evaluate({"target": rows}, {}, truth_ratio_mean=mean, words="published")
        values, reasons = results.values["target"], results.missing["target"]
        output[mean] = {name: values[name] for name in NUMBERS if name in values}
        missing |= {name: _reason(name, rows, log) or reasons[name] for name in NUMBERS if name not in values}
        if not unmeasured:
            output[mean]["forget_quality"] = _forget_quality(sides, mean, unpaired=unpaired)
        definitions += [each for each in _definitions(results, output[mean]) if each not in definitions]
    return {**output, "missing": missing, "definitions": definitions}


def write(rows: Path, out: Path) -> dict[str, Any]:
    """Write stored predictions as a log; return its number of questions by set and the sets it has to leave out.

    Args:
        rows: ``rows.jsonl`` of a stored ``predict`` stage.
        out: Path of the log; see :func:`~.tofu_logs.writer.write_log`.

    Raises:
        UserError: ``rows`` has no stored predictions, they do not fit the format, or ``out`` cannot be written.
    """
    answered = _read_predictions(rows)
    write_log(out, published_log(answered), option="--write")
    counts = Counter(row.set for row in answered)
    left_out = {name: "the format has no part for this set" for name in counts if name not in PARTS}
    return {"log": str(out), "questions": {name: counts[name] for name in PARTS if counts[name]}, "left_out": left_out}


def main(arguments: Sequence[str]) -> int:
    """Run the command, print its output or error, and return the exit status, 0 or 1.

    Args:
        arguments: Command-line arguments, without the program's name.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.unpaired and given.retain is None:
        parser.error("--unpaired says how to compare with a retain model's log: give it with --retain RETAIN")
    if given.write is not None and given.retain is not None:
        parser.error("--write makes a log and scores nothing: leave --retain out, then score what was written")
    try:
        output = _run(given)
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 1
    sys.stdout.write(json.dumps(output, indent=1, allow_nan=False) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program("evaluate"),
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "log", metavar="LOG", type=Path, help="log of the model to score; with --write, the answers to make a log of"
    )
    parser.add_argument(
        "--retain",
        metavar="RETAIN",
        type=Path,
        help="log of the model that never saw the forget set, on the same forget questions; forget quality needs it",
    )
    parser.add_argument(
        "--unpaired",
        action="store_true",
        help="compare all forget questions of LOG with all of RETAIN though they differ (marked `paired: false`); such "
        "a forget quality also measures how the questions differ",
    )
    parser.add_argument(
        "--write",
        metavar="OUT",
        type=Path,
        help="make the log OUT of LOG, which is then the rows.jsonl of a stored `predict` stage; a file that is there "
        "stays unless it holds the same",
    )
    return parser


def _run(given: argparse.Namespace) -> dict[str, Any]:
    if given.write is not None:
        return write(given.log, given.write)
    try:
        return report(given.log, given.retain, unpaired=given.unpaired)
    except UserError as error:
        if ROWS_SUFFIX not in {path.suffix for path in (given.log, given.retain) if path is not None}:
            raise
        raise UserError(f"{error}. Answers stored by a run become a log with --write OUT.json; score that") from error


def _read_predictions(path: Path) -> list[AnswerRow]:
    # Checked here because the reader's advice, to delete the file and predict again, would cost the user a log.
    if path.suffix != ROWS_SUFFIX:
        raise UserError(
            f"LOG={path} is not a file of stored answers; --write needs the rows.jsonl of a `predict` stage, such as "
            "outputs/store/predict/KEY/rows.jsonl: name it, or leave --write out to score a log"
        )
    try:
        return read_rows(path)
    except OSError as error:
        raise UserError(
            f"LOG={path} cannot be read ({error.strerror}); name a rows.jsonl that is yours to read"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"LOG={path} is not UTF-8 ({error.reason}); name the rows.jsonl of a `predict` stage"
        ) from error


def _forget(rows: list[AnswerRow]) -> list[AnswerRow]:
    return [row for row in rows if row.set == "forget"]


def _unmeasured(log: Path, retain: Path | None, sides: list[list[AnswerRow]]) -> str:
    """Reason why forget quality cannot be computed; empty if it can."""
    if retain is None:
        return "no log of a retain model was given to compare with: add --retain RETAIN"
    without_forget = [path for path, rows in zip((log, retain), sides, strict=True) if not rows]
    return f"{without_forget[0]} holds no {PARTS['forget']}" if without_forget else ""


def _reason(name: str, rows: list[AnswerRow], log: Path) -> str:
    """Part of the log that a metric needs and the log does not have; empty if none is missing."""
    part = name.split("/")[0]
    absent = part in PARTS and all(row.set != part for row in rows)
    return f"{log} holds no {PARTS[part]}" if absent else ""


def _definitions(results: Results, output: Container[str]) -> list[dict[str, Any]]:
    """Definitions of the reported metrics, and of the four under ``forget_quality``."""
    chosen = []
    for definition in results.definitions:
        name = "forget_quality" if definition.name.startswith("forget_quality_") else definition.name
        if name in output:
            chosen.append(dataclasses.asdict(definition))
    return chosen


def _forget_quality(sides: list[list[AnswerRow]], mean: Mean, *, unpaired: bool) -> dict[str, float | bool]:
    compare = unpaired_forget_quality if unpaired else forget_quality
    result = compare(*([row_log_truth_ratio(row, mean=mean) for row in rows] for rows in sides))
    return {
        "p": result.p,
        "log10_p": result.log10_p,
        "distance": result.distance,
        "rows": result.rows,
        "rows_retain": result.rows_retain,
        "paired": not unpaired,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
