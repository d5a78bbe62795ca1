"""Scores a log in TOFU's published format: ``python -m meow_lightning.evaluation LOG --retain RETAIN``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, get_args

from meow_lightning.evaluation.logs import COLUMNS, PARTS, check_same_log_questions, read_log
from meow_lightning.evaluation.metrics.forget_quality import forget_quality, unpaired_forget_quality
from meow_lightning.evaluation.metrics.model_utility import INPUTS
from meow_lightning.evaluation.metrics.truth_ratio import Mean, row_log_truth_ratio
from meow_lightning.evaluation.suite import evaluate
from meow_lightning.types import AnswerRow, Results, UserError

NUMBERS = ("model_utility", *INPUTS, "forget/probability", "forget/rouge_l_recall", "forget/truth_ratio")
"""What a log of one model gives, in the order of the report; forget quality needs a second one."""

DESCRIPTION = """\
Scores an evaluation log in TOFU's published format, which is a matter of arithmetic: no model, no GPU, seconds.
Prints one JSON object with model utility, its nine inputs, the numbers of the forget set and forget quality, each
under both means of the truth ratio:
  geometric   as TOFU's published numbers and open-unlearning have it
  arithmetic  as the equation of the TOFU paper has it"""

EPILOG = f"""\
A log is a JSON object of up to four parts:
  {PARTS["forget"]:<33} forget set
  {PARTS["retain"]:<33} retain set
  {PARTS["real_authors"]:<33} real authors
  {PARTS["world_facts"]:<33} world facts
A part is a table, column -> {{row number: value}}, rows from 0, with at least the columns
  {", ".join(COLUMNS)}.
TOFU writes this as eval_log_aggregated.json. What an absent part would give is listed under `missing`.

  python -m meow_lightning.evaluation unlearned.json --retain retain90.json
  python -m meow_lightning.evaluation full.json --retain retain95.json --unpaired

Exit status: 0, or 1 with one line `error: ...` and no output, or 2 for a wrong command line."""


def report(log: Path, retain: Path | None, *, unpaired: bool) -> dict[str, Any]:
    """Every number of a log by mean, what is missing and why, and what the numbers mean; plain values for JSON.

    Args:
        log: The evaluated model's log.
        retain: The retain model's log; only its forget part is used, for forget quality.
        unpaired: Whether the two may hold different forget questions.

    Raises:
        UserError: A file is no TOFU log, or, unless ``unpaired``, the two hold different forget questions.
    """
    rows = read_log(log, option="LOG")
    sides = [_forget(rows), _forget(read_log(retain, option="--retain") if retain is not None else [])]
    unmeasured = _unmeasured(log, retain, sides)
    if not unmeasured and not unpaired:
        check_same_log_questions(*sides, names=(str(log), str(retain)))
    told: dict[str, Any] = {"log": str(log), "retain": None if retain is None else str(retain)}
    missing = {"forget_quality": unmeasured} if unmeasured else {}
    definitions: list[dict[str, Any]] = []
    for mean in get_args(Mean):
        results = evaluate({"target": rows}, {}, truth_ratio_mean=mean)
        values, reasons = results.values["target"], results.missing["target"]
        told[mean] = {name: values[name] for name in NUMBERS if name in values}
        missing |= {name: _reason(name, rows, log) or reasons[name] for name in NUMBERS if name not in values}
        if not unmeasured:
            told[mean]["forget_quality"] = _forget_quality(sides, mean, unpaired=unpaired)
        definitions += [each for each in _definitions(results, told[mean]) if each not in definitions]
    return {**told, "missing": missing, "definitions": definitions}


def main(arguments: Sequence[str]) -> int:
    """The exit status of one call of the command, 0 or 1; its output or its error is written.

    Args:
        arguments: The words after the program's name.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.unpaired and given.retain is None:
        parser.error("--unpaired says how to compare with a retain model's log: give it with --retain RETAIN")
    try:
        told = report(given.log, given.retain, unpaired=given.unpaired)
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 1
    sys.stdout.write(json.dumps(told, indent=1, allow_nan=False) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m meow_lightning.evaluation",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("log", metavar="LOG", type=Path, help="log of the model to score")
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
    return parser


def _forget(rows: list[AnswerRow]) -> list[AnswerRow]:
    return [row for row in rows if row.set == "forget"]


def _unmeasured(log: Path, retain: Path | None, sides: list[list[AnswerRow]]) -> str:
    """Why forget quality cannot be had; empty if it can."""
    if retain is None:
        return "no log of a retain model was given to compare with: add --retain RETAIN"
    lacking = [path for path, rows in zip((log, retain), sides, strict=True) if not rows]
    return f"{lacking[0]} holds no {PARTS['forget']}" if lacking else ""


def _reason(name: str, rows: list[AnswerRow], log: Path) -> str:
    """Which part of the log a number lacks; empty if it is none."""
    part = name.split("/")[0]
    absent = part in PARTS and all(row.set != part for row in rows)
    return f"{log} holds no {PARTS[part]}" if absent else ""


def _definitions(results: Results, told: Container[str]) -> list[dict[str, Any]]:
    """The definitions of the numbers that are told, and of the four that stand below ``forget_quality``."""
    wanted = []
    for definition in results.definitions:
        name = "forget_quality" if definition.name.startswith("forget_quality_") else definition.name
        if name in told:
            wanted.append(dataclasses.asdict(definition))
    return wanted


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
