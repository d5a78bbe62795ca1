"""Reader of evaluation logs in TOFU's published format (TOFU, Maini et al. 2024) and in open-unlearning's."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from meow_lightning.data.text_files import read_text
from meow_lightning.errors import UserError, suggestion
from meow_lightning.evaluation.tofu_logs import open_unlearning
from meow_lightning.evaluation.tofu_logs.fields import check_no_gaps, check_row_numbers, likelihood, listed, shown
from meow_lightning.types import AnswerRow

PARTS = {
    "forget": "eval_log_forget.json",
    "retain": "eval_log.json",
    "real_authors": "eval_real_author_wo_options.json",
    "world_facts": "eval_real_world_wo_options.json",
}
"""Part of the log for each evaluation set."""

TEXTS, TRUTH, PARAPHRASE, WRONG = "generated_text", "avg_gt_loss", "avg_paraphrased_loss", "average_perturb_loss"
COLUMNS = (TEXTS, TRUTH, PARAPHRASE, WRONG)
"""Columns that are read; a log has more."""

FORMAT = (
    f"a JSON object of at least one of {', '.join(PARTS.values())}, "
    f"each with the columns {', '.join(COLUMNS)} as {{row number: value}}; or open-unlearning's TOFU_EVAL.json"
)

Tags = tuple[tuple[str, str], tuple[str, str]]


def part_names(name: str) -> str:
    """Name the part of a log that holds a set, in both forms: ``eval_log.json nor retain_Q_A_Prob``.

    Args:
        name: One of the sets of ``PARTS``.
    """
    return f"{PARTS[name]} nor {open_unlearning.METRICS[name][0]}"


def read_log(path: Path, *, option: str) -> list[AnswerRow]:
    """Read the rows of every evaluation set in a log of either form, in the order of ``PARTS``, then by row number.

    A log has mean losses and no tokens, so each likelihood is stored as a single token with that mean loss. Fields that
    a log cannot fill are empty (``value``, ``generated``, ``hits``) or defaults (``stop="length"``, ``fact`` is set and
    number).

    Args:
        path: The log, one JSON object, UTF-8.
        option: Option that names the file, such as ``--retain``; for error messages.

    Raises:
        UserError: The file cannot be read, is not JSON or not a TOFU log, or a row has a missing or invalid value.
    """
    where = f"{option}={path}"
    log = _content(path, where)
    if open_unlearning.is_open_unlearning(log):
        return open_unlearning.rows_of(log, where)
    if not set(PARTS.values()) & set(log):
        raise UserError(f"{where} is not a TOFU log: {_without_parts(log)}; expected {FORMAT}")
    return [row for name, part in PARTS.items() if part in log for row in _rows(name, log[part], f"{where}, {part}")]


def read_retain_aucs(path: Path, *, option: str) -> dict[str, float]:
    """Read the AUCs of membership attacks on a retain model, by name of the attack; only open-unlearning logs any.

    Args:
        path: The log.
        option: Option that names the file, for error messages.

    Raises:
        UserError: The file cannot be read or is not JSON, or a value is no AUC.
    """
    where = f"{option}={path}"
    log = _content(path, where)
    return open_unlearning.retain_aucs(log, where) if open_unlearning.is_open_unlearning(log) else {}


def check_same_log_questions(left: Sequence[AnswerRow], right: Sequence[AnswerRow], *, names: tuple[str, str]) -> None:
    """Check that two logs have the same questions and true answers in the same order.

    The question column contains whole prompts. If all true answers agree, the questions may differ by a common prefix
    and suffix: the tags of another model family. Whitespace is ignored because decoding moves it.

    Args:
        left: Rows of one set in one log.
        right: Rows of the same set in the other log.
        names: Names of the two files, for the error message.

    Raises:
        UserError: The questions or answers differ.
    """
    bare_left, bare_right = (
        [replace(row, question=_bare(row.question), answer=_bare(row.answer)) for row in rows] for rows in (left, right)
    )
    tags = _tags([(one.question, other.question) for one, other in zip(bare_left, bare_right, strict=False)])
    position = _first_difference(bare_left, bare_right, tags)
    if position is None:
        return
    counts = [f"{name} contains {len(rows)} forget questions" for name, rows in zip(names, (left, right), strict=True)]
    if position >= min(len(left), len(right)):
        longer, name = (left, names[0]) if len(left) > len(right) else (right, names[1])
        difference = f"question {position} is the first in {name} only: {shown(longer[position].question)}"
    else:
        one, other = left[position], right[position]
        one_bare, other_bare = bare_left[position], bare_right[position]
        answer_differs = one_bare.answer != other_bare.answer and _same_between(
            one_bare.question, other_bare.question, tags
        )
        texts = (one.answer, other.answer) if answer_differs else (one.question, other.question)
        subject = f"the true answer of question {position}" if answer_differs else f"question {position}"
        difference = f"{subject} is the first that differs: {shown(texts[0])} and {shown(texts[1])}"
    raise UserError(
        f"{counts[0]}, {counts[1]}; {difference}. Forget quality needs the same questions in the same order: set "
        "--retain to the log of a retain model on the same forget set, or add --unpaired to compare all rows with all "
        "rows"
    )


def read_retain_log(path: Path, questions: Sequence[tuple[str, str, str]], *, option: str) -> list[AnswerRow]:
    """Read a log that replaces a retain model's predictions, matched with the dataset's forget questions.

    Args:
        path: The log.
        questions: Fact id, question and true answer of every forget question of the dataset, in order.
        option: Option that names the file.

    Raises:
        UserError: The log cannot be read, or its forget questions differ.
    """
    rows = read_log(path, option=option)
    forget = [row for row in rows if row.set == "forget"]
    # Decoding moves spaces before commas, so whitespace is ignored; the prompts include the tags of their model.
    different = [
        number
        for number, (row, (_, _, answer)) in enumerate(zip(forget, questions, strict=False))
        if _bare(row.answer) != _bare(answer)
    ]
    if len(forget) != len(questions) or different:
        first = f", the true answer of question {different[0]} is the first that differs" if different else ""
        raise UserError(
            f"{option}={path} contains {len(forget)} forget questions and the dataset {len(questions)}{first}: "
            "expected the log of a retain model on the same split; omit limit= as well"
        )
    matched = {row.index: question for row, question in zip(forget, questions, strict=True)}
    return [
        replace(row, fact=matched[row.index][0], question=matched[row.index][1], answer=matched[row.index][2])
        if row.set == "forget" else row
        for row in rows
    ]  # fmt: skip


def _bare(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _content(path: Path, where: str) -> dict[str, Any]:
    text = read_text(path, where=where, give=f"the path of a TOFU log, {FORMAT}")
    if not text.strip():
        raise UserError(f"{where} is empty; expected {FORMAT}")
    try:
        log = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid JSON ({error}); expected {FORMAT}") from error
    if not isinstance(log, dict):
        raise UserError(f"{where} is not a TOFU log: it contains a {type(log).__name__}; expected {FORMAT}")
    return log


def _without_parts(log: dict[str, Any]) -> str:
    if set(COLUMNS) & set(log):
        return (
            f"it contains the columns of a single part, {listed(log)}; use eval_log_aggregated.json, or nest this "
            f"table under the name of its part, such as {PARTS['forget']}"
        )
    hints = [hint for key in log if (hint := suggestion(key, PARTS.values()))]
    return f"it contains none of the four parts but {listed(log)}{hints[0] if hints else ''}"


def _rows(name: str, table: Any, where: str) -> list[AnswerRow]:
    number = _row_count(table, where)
    rows = []
    for index in range(number):
        values = {column: table[column][str(index)] for column in COLUMNS}
        row = f"{where}, row {index}"
        texts, wrong = values[TEXTS], values[WRONG]
        if not (isinstance(texts, list) and len(texts) == 3 and all(isinstance(text, str) for text in texts)):
            raise UserError(
                f"{row}: {TEXTS}={shown(texts)} is invalid: expected [question, generated text, true answer]"
            )
        if not (isinstance(wrong, list) and wrong):
            raise UserError(
                f"{row}: {WRONG}={shown(wrong)} is invalid: expected a list of the wrong answers' mean losses"
            )
        rows.append(
            AnswerRow(
                set=name,
                index=index,
                fact=f"{name}-{index}",
                question=texts[0],
                answer=texts[2],
                value=None,
                truth=likelihood(values[TRUTH], TRUTH, row),
                # Also for sets without a paraphrase: their logs score the true answer a second time, in another batch
                # and up to 0.12 nats off, and the published truth ratios use that second value.
                paraphrase=likelihood(values[PARAPHRASE], PARAPHRASE, row),
                perturbed=tuple(likelihood(loss, WRONG, row) for loss in wrong),
                generated=(),
                text=texts[1],
                stop="length",
            )
        )
    return rows


def _row_count(table: Any, where: str) -> int:
    """Count the rows of a part, after checking that every column has all of them."""
    _check_columns(table, where)
    numbers = {number for column in COLUMNS for number in table[column]}
    check_row_numbers(numbers, where)
    for number in sorted(numbers, key=int):
        for column in COLUMNS:
            if number not in table[column]:
                raise UserError(
                    f"{where}, row {number}: {column} has no value: expected {', '.join(COLUMNS)} in every row"
                )
    check_no_gaps(numbers, where)
    return len(numbers)


def _check_columns(table: Any, where: str) -> None:
    if not isinstance(table, dict):
        raise UserError(f"{where} is not a table but a {type(table).__name__}; expected {FORMAT}")
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise UserError(f"{where}: column {', '.join(missing)} is missing from {listed(table)}; expected {FORMAT}")
    for column in COLUMNS:
        if not isinstance(table[column], dict):
            raise UserError(f"{where}: column {column} contains a {type(table[column]).__name__}; expected {FORMAT}")


def _first_difference(left: Sequence[AnswerRow], right: Sequence[AnswerRow], tags: Tags) -> int | None:
    pairs = list(zip(left, right, strict=False))
    strict, tagged = [], []
    for position, (one, other) in enumerate(pairs):
        if (one.question, one.answer) != (other.question, other.answer):
            strict.append(position)
            if one.answer != other.answer or not _same_between(one.question, other.question, tags):
                tagged.append(position)
    if tagged:
        # tags that fit only a few rows are words of one question, not tags
        return tagged[0] if 2 * len(tagged) < len(pairs) else strict[0]
    return None if len(left) == len(right) else len(pairs)


def _tags(questions: list[tuple[str, str]]) -> Tags:
    """Split off each side's text in the first prompt around the longest substring that both sides share."""
    if len(set(questions)) < 2:  # tags cannot be separated from the question in a single prompt
        return ("", ""), ("", "")
    one, other = questions[0]
    match = difflib.SequenceMatcher(None, one, other, autojunk=False).find_longest_match()
    left, right = match.a + match.size, match.b + match.size
    return (one[: match.a], one[left:]), (other[: match.b], other[right:])


def _same_between(one: str, other: str, tags: Tags) -> bool:
    untagged = []
    for text, (before, after) in zip((one, other), tags, strict=True):
        if len(text) < len(before) + len(after) or not (text.startswith(before) and text.endswith(after)):
            return False
        untagged.append(text[len(before) : len(text) - len(after)])
    return untagged[0] == untagged[1]
