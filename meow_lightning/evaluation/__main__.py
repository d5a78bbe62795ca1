"""``meow-lightning evaluate``: compute metrics of a log of TOFU's or open-unlearning's code, or write one.

Also ``python -m meow_lightning.evaluation``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from meow_lightning.config.program import program
from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import Mean
from meow_lightning.evaluation.metrics.forget_quality import forget_quality, unpaired_forget_quality
from meow_lightning.evaluation.metrics.model_utility import utility_inputs
from meow_lightning.evaluation.metrics.truth_ratio import row_log_truth_ratio
from meow_lightning.evaluation.predictions import read_rows
from meow_lightning.evaluation.sets import BENCHMARK
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.evaluation.tofu_logs.open_unlearning_writer import open_unlearning_log
from meow_lightning.evaluation.tofu_logs.reader import COLUMNS, PARTS, check_same_log_questions, part_names, read_log
from meow_lightning.evaluation.tofu_logs.writer import published_log, write_log
from meow_lightning.types import AnswerRow, Results

NUMBERS = (
    "model_utility",
    *utility_inputs(BENCHMARK),
    "forget/probability",
    "forget/rouge_l_recall",
    "forget/truth_ratio",
)
"""Metrics available from the log of one model, in report order; forget quality needs a second log."""


class Form(NamedTuple):
    """A form of logs that can be written.

    Attributes:
        convert: Converts prediction rows to a log.
        sets: The sets that it holds, in order.
    """

    convert: Callable[[Sequence[AnswerRow]], Mapping[str, Any]]
    sets: Sequence[str]


FORMS = {
    "tofu": Form(published_log, tuple(PARTS)),
    "open_unlearning": Form(open_unlearning_log, (*PARTS, "holdout")),
}
"""Forms of logs by name."""

ROWS_SUFFIX = ".jsonl"
"""Suffix of files of prediction rows; a log is a single JSON object."""

DESCRIPTION = """\
Computes the metrics of an evaluation log, TOFU's or open-unlearning's TOFU_EVAL.json, without a model or GPU, in
seconds.
Prints one JSON object with model utility, its nine inputs, the metrics of the forget set and forget quality, each
under both means of the truth ratio:
  geometric   used by TOFU's published numbers and open-unlearning
  arithmetic  used by the equation in the TOFU paper

With --write OUT, converts predictions stored by a run to such a log and prints a summary of it."""

EPILOG = f"""\
A log is a JSON object of up to four parts:
  {PARTS["forget"]:<33} forget set
  {PARTS["retain"]:<33} retain set
  {PARTS["real_authors"]:<33} real authors
  {PARTS["world_facts"]:<33} world facts
A part is a table, column -> {{row number: value}}, with rows numbered from 0 and at least the columns
  {", ".join(COLUMNS)}.
TOFU's file is eval_log_aggregated.json. Metrics that need an absent part are listed under `missing`.
Of open-unlearning's TOFU_EVAL.json the metrics <set>_Q_A_Prob, _Q_A_PERT_Prob, _Q_A_ROUGE and, for forget and retain,
_Q_A_PARA_Prob are read, which its default evaluation writes; both forms may be compared with each other.

  %(prog)s unlearned.json --retain retain90.json
  %(prog)s full.json --retain retain95.json --unpaired
  %(prog)s outputs/store/predict/KEY/rows.jsonl --write unlearned.json
  %(prog)s outputs/store/predict/KEY/rows.jsonl --write TOFU_EVAL.json --format open_unlearning

Exit status: 0; 1 with one line `error: ...` and no output; 2 for an invalid command line."""


def report(log: Path, retain: Path | None, *, unpaired: bool) -> dict[str, Any]:
    """Compute a log's metrics by truth-ratio mean, with missing metrics and definitions, as plain JSON values.

    Args:
        log: The evaluated model's log.
        retain: The retain model's log; only its forget part is used, for forget quality.
        unpaired: Whether the two logs may have different forget questions.

    Raises:
        UserError: A file is not a TOFU log, or, unless ``unpaired``, the logs have different forget questions.
    """
    if retain is not None and log.is_file() and retain.is_file() and log.read_bytes() == retain.read_bytes():
        raise UserError(
            f"--retain={retain} is invalid: expected the log of a model that was not trained on the forget set, but it "
            "is the same log as LOG, so forget quality would compare a model with itself"
        )
    rows = read_log(log, option="LOG")
    sides = [_forget(rows), _forget(read_log(retain, option="--retain") if retain is not None else [])]
    no_quality = _forget_quality_missing(log, retain, sides)
    if not no_quality and not unpaired:
        check_same_log_questions(*sides, names=(str(log), str(retain)))
    output: dict[str, Any] = {"log": str(log), "retain": None if retain is None else str(retain)}
    missing = {"forget_quality": no_quality} if no_quality else {}
    definitions: list[dict[str, Any]] = []
    for mean in get_args(Mean):
        results = evaluate({"target": rows}, {}, truth_ratio_mean=mean, words="published")
        values, reasons = results.values["target"], results.missing["target"]
        output[mean] = {name: values[name] for name in NUMBERS if name in values}
        missing |= {name: _reason(name, rows, log) or reasons[name] for name in NUMBERS if name not in values}
        if not no_quality:
            output[mean]["forget_quality"] = _forget_quality(sides, mean, unpaired=unpaired)
        reported = _definitions(results, output[mean])
        definitions += [definition for definition in reported if definition not in definitions]
    return {**output, "missing": missing, "definitions": definitions}


def write(rows: Path, out: Path, *, form: str) -> dict[str, Any]:
    """Write stored predictions as a log; return the number of questions by set, and the omitted sets.

    Args:
        rows: ``rows.jsonl`` of a stored ``predict`` stage.
        out: Path of the log; see :func:`~.tofu_logs.writer.write_log`.
        form: One of :data:`FORMS`.

    Raises:
        UserError: ``rows`` is not a file of predictions, they do not fit the format, or ``out`` cannot be written.
    """
    predictions = _read_predictions(rows)
    sets = FORMS[form].sets
    write_log(out, FORMS[form].convert(predictions), option="--write")
    counts = Counter(row.set for row in predictions)
    left_out = {name: "the format has no part for this set" for name in counts if name not in sets}
    return {"log": str(out), "questions": {name: counts[name] for name in sets if counts[name]}, "left_out": left_out}


def main(arguments: Sequence[str]) -> int:
    """Run the command, print its output or error, and return the exit status, 0 or 1.

    Args:
        arguments: Command-line arguments, without the program's name.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.unpaired and given.retain is None:
        parser.error("--unpaired requires --retain RETAIN")
    if given.format is not None and given.write is None:
        parser.error("--format requires --write OUT; logs to evaluate are recognised")
    if given.write is not None and given.retain is not None:
        parser.error("--write only converts predictions: omit --retain, then evaluate the written log")
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
        "log", metavar="LOG", type=Path, help="log of the model to evaluate; with --write, the predictions to convert"
    )
    parser.add_argument(
        "--retain",
        metavar="RETAIN",
        type=Path,
        help="log of a model not trained on the forget set, on the same forget questions; needed for forget quality",
    )
    parser.add_argument(
        "--unpaired",
        action="store_true",
        help="compare all forget questions of LOG with all of RETAIN even if they differ (marked `paired: false`); "
        "forget quality then also reflects how the questions differ",
    )
    parser.add_argument(
        "--write",
        metavar="OUT",
        type=Path,
        help="convert LOG, the rows.jsonl of a stored `predict` stage, to the log OUT; an existing OUT with other "
        "content is not overwritten",
    )
    parser.add_argument(
        "--format",
        choices=list(FORMS),
        help="form of OUT: TOFU's (default) or open-unlearning's, which its retain_logs_path takes",
    )
    return parser


def _run(given: argparse.Namespace) -> dict[str, Any]:
    if given.write is not None:
        return write(given.log, given.write, form=given.format or "tofu")
    try:
        return report(given.log, given.retain, unpaired=given.unpaired)
    except UserError as error:
        if ROWS_SUFFIX not in {path.suffix for path in (given.log, given.retain) if path is not None}:
            raise
        raise UserError(
            f"{error}. To evaluate predictions of a run, convert them with --write OUT.json first"
        ) from error


def _read_predictions(path: Path) -> list[AnswerRow]:
    # Checked here because the remedy in the reader's error, deleting the file, would cost the user a log.
    if path.suffix != ROWS_SUFFIX:
        raise UserError(
            f"LOG={path} is invalid: expected with --write the rows.jsonl of a `predict` stage, such as "
            "outputs/store/predict/KEY/rows.jsonl; omit --write to evaluate a log"
        )
    try:
        return read_rows(path)
    except OSError as error:
        raise UserError(
            f"LOG={path} cannot be read ({error.strerror}); change its permissions or give another rows.jsonl"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"LOG={path} is not UTF-8 ({error.reason}); give the rows.jsonl of a `predict` stage"
        ) from error


def _forget(rows: list[AnswerRow]) -> list[AnswerRow]:
    return [row for row in rows if row.set == "forget"]


def _forget_quality_missing(log: Path, retain: Path | None, sides: list[list[AnswerRow]]) -> str:
    """Explain why forget quality cannot be computed; empty if it can."""
    if retain is None:
        return "it needs the log of a retain model: add --retain RETAIN"
    without_forget = [path for path, rows in zip((log, retain), sides, strict=True) if not rows]
    return f"{without_forget[0]} contains neither {part_names('forget')}" if without_forget else ""


def _reason(name: str, rows: list[AnswerRow], log: Path) -> str:
    """Name the part of the log that a metric needs and that is missing; empty if none is."""
    part = name.split("/")[0]
    absent = part in PARTS and all(row.set != part for row in rows)
    return f"{log} contains neither {part_names(part)}" if absent else ""


def _definitions(results: Results, output: Container[str]) -> list[dict[str, Any]]:
    """Select the definitions of the reported metrics, and of the four under ``forget_quality``."""
    selected = []
    for definition in results.definitions:
        name = "forget_quality" if definition.name.startswith("forget_quality_") else definition.name
        if name in output:
            selected.append(dataclasses.asdict(definition))
    return selected


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
