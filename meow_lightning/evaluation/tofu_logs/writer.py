"""Writer of evaluation logs in TOFU's published format (TOFU, Maini et al. 2024)."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import has_tokens
from meow_lightning.evaluation.metrics.probability import log_sum_exp, mean_logp
from meow_lightning.evaluation.metrics.rouge import row_rouge_1_recall, row_rouge_l_recall
from meow_lightning.evaluation.metrics.truth_ratio import row_log_truth_ratio
from meow_lightning.evaluation.predictions import by_set
from meow_lightning.evaluation.sets import set_info
from meow_lightning.evaluation.tofu_logs.reader import PARAPHRASE, PARTS, TEXTS, TRUTH, WRONG
from meow_lightning.types import AnswerRow, Likelihood

Log = dict[str, dict[str, dict[str, Any]]]
"""Part -> column -> row number as text -> value."""

# order of the parts in the published files
_ORDER = ("retain", "real_authors", "world_facts", "forget")


def published_log(rows: Sequence[AnswerRow]) -> Log:
    """Convert one model's predictions to a log in TOFU's published format; :func:`~.reader.read_log` reads it back.

    Names, columns and their order are those of the published files. With ``l_t = -log p(token t)`` in nats over the
    ``T`` scored tokens of a text, end token included:

    ===================================== ==============================================================
    column                                value
    ===================================== ==============================================================
    ``gt_loss``                           ``sum_t l_t`` of the true answer
    ``num_token_gt``                      ``T``
    ``avg_gt_loss``                       ``sum_t l_t / T``
    ``paraphrased_loss`` and related      the same of the paraphrase; of the true answer if there is no paraphrase
    ``perturb_loss`` and related          the same of each wrong answer, as a list
    ``generated_text``                    question, greedy answer, true answer
    ``rouge1_recall``, ``rougeL_recall``  of the greedy answer against the true one
    ``truth_ratio``                       ``R = exp(avg_paraphrased_loss - mean of average_perturb_loss)``
    ``normalized_gt_loss``                ``-log(P(answer) / (P(answer) + sum of P(wrong answer)))``, ``P`` being
                                          ``exp`` of minus the mean loss; only for real authors and world facts
    ===================================== ==============================================================

    ``truth_ratio`` is therefore wrong over correct with the geometric mean, whichever mean a report uses; an ``R``
    beyond the largest double is clamped to it. All rows are written, whereas TOFU's code stops after 300 per set.

    Anything the format cannot represent is left out: sets other than its four (``holdout``), and of each row the fact's
    id, ``value``, per-token likelihoods with ``hits``, ``mean`` and ``std``, the gradient norm, the generated tokens
    and the stop reason. Value accuracy, membership attacks and metrics that need tokens or the end of the generation
    can therefore not be computed from a log, and fluency loses the words of the omitted sets. Questions are written
    without the tags of a model family, which rows do not contain. Rows read from a log have only mean losses, so the
    sums and numbers of tokens are left out for them.

    Args:
        rows: The prediction rows of one model, in any order; each of the four sets complete or absent.

    Raises:
        UserError: None of the four sets is given, one is incomplete, or a row has no wrong answers or no finite loss.
    """
    sets = by_set(row for row in rows if row.set in PARTS)
    if not sets:
        given = ", ".join(sorted({repr(row.set) for row in rows})) or "no rows"
        raise UserError(
            f"these predictions contain {given}: expected at least one of the sets {', '.join(PARTS)} of a TOFU log; "
            "use a run that evaluates one of them"
        )
    return {PARTS[name]: _part(sets[name]) for name in _ORDER if name in sets}


def write_log(path: Path, log: Mapping[str, Any], *, option: str) -> None:
    """Write the log as JSON, atomically and without replacing other content.

    Args:
        path: File to write; an existing file must have exactly this content.
        log: Result of :func:`published_log` or :func:`~.open_unlearning_writer.open_unlearning_log`.
        option: Option that names the file, such as ``--write``; for error messages.

    Raises:
        UserError: The file has other content or cannot be written.
    """
    content = (json.dumps(log, indent=4, allow_nan=False) + "\n").encode()
    try:
        if not path.exists():
            _write_atomically(path, content)
        elif path.read_bytes() != content:
            raise UserError(f"{option}={path} exists with other content: choose another file or delete this one")
    except OSError as error:
        raise UserError(
            f"{option}={path} cannot be written ({error.strerror}): choose a file in an existing, writable folder"
        ) from error


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _part(rows: list[AnswerRow]) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for row in rows:
        for column, value in _columns(row).items():
            table.setdefault(column, {})[str(row.index)] = value
    # a column with gaps would shift rows for readers that treat its values as a list
    return {column: values for column, values in table.items() if len(values) == len(rows)}


def _columns(row: AnswerRow) -> dict[str, Any]:
    """Build the log columns of one row in the published order, without those that the row cannot fill."""
    check_row(row)
    correct = row.truth if row.paraphrase is None else row.paraphrase
    has_all_tokens = all(map(has_tokens, row.perturbed))
    columns = {
        TRUTH: mean_loss(row.truth),
        "gt_loss": _loss(row.truth),
        "num_token_gt": _tokens(row.truth),
        TEXTS: [row.question, row.text, row.answer],
        "rouge1_recall": row_rouge_1_recall(row, kind="published"),
        "rougeL_recall": row_rouge_l_recall(row, kind="published"),
        WRONG: [mean_loss(wrong) for wrong in row.perturbed],
        PARAPHRASE: mean_loss(correct),
        "truth_ratio": _truth_ratio(row),
        "paraphrased_loss": _loss(correct),
        "perturb_loss": [_loss(wrong) for wrong in row.perturbed] if has_all_tokens else None,
        "num_token_paraphrased": _tokens(correct),
        "num_token_perturb": [_tokens(wrong) for wrong in row.perturbed] if has_all_tokens else None,
        "normalized_gt_loss": _normalised_loss(row) if set_info(row.set).scoring == "options" else None,
    }
    return {column: value for column, value in columns.items() if value is not None}


def check_row(row: AnswerRow) -> None:
    """Check that a row has what a log needs.

    Args:
        row: A prediction row.

    Raises:
        UserError: It has no wrong answers, or a text has no finite loss.
    """
    where = f"question {row.index} of set {row.set!r}"
    if not row.perturbed:
        raise UserError(
            f"{where} has no wrong (perturbed) answers: a TOFU log needs at least 1 in every row; add some to the "
            "facts and run the stage `predict` again, or omit the set"
        )
    texts = {"true answer": row.truth, "paraphrase": row.paraphrase}
    texts |= {f"wrong answer {number}": wrong for number, wrong in enumerate(row.perturbed)}
    for name, likelihood in texts.items():
        if likelihood is None:
            continue
        if len(likelihood.logps) == 0:
            raise UserError(f"{where}: its {name} has 0 scored tokens: expected at least 1 (the end token)")
        if not math.isfinite(mean := mean_loss(likelihood)):
            raise UserError(
                f"{where}: the mean loss of its {name} is {mean}: expected a finite number; did training diverge?"
            )


def mean_loss(likelihood: Likelihood) -> float:
    """Compute the mean loss over the scored tokens of a text, in nats.

    Args:
        likelihood: Its likelihood.
    """
    return 0.0 - mean_logp(likelihood.logps)  # unary minus would write a loss of 0 as -0.0


def _loss(likelihood: Likelihood) -> float | None:
    return 0.0 - math.fsum(likelihood.logps) if has_tokens(likelihood) else None


def _tokens(likelihood: Likelihood) -> int | None:
    return len(likelihood.logps) if has_tokens(likelihood) else None


def _truth_ratio(row: AnswerRow) -> float:
    log_ratio = row_log_truth_ratio(row, mean="geometric")
    return math.exp(log_ratio) if log_ratio < math.log(sys.float_info.max) else sys.float_info.max


def _normalised_loss(row: AnswerRow) -> float:
    # not the logarithm of the probability, which may be 0
    correct = mean_logp(row.truth.logps)
    return log_sum_exp([correct, *(mean_logp(wrong.logps) for wrong in row.perturbed)]) - correct
