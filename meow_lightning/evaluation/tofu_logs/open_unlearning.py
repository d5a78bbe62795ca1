"""Reader of open-unlearning's evaluation logs of TOFU, ``TOFU_EVAL.json`` (locuslab/open-unlearning, December 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meow_lightning.errors import UserError
from meow_lightning.evaluation.tofu_logs.fields import check_no_gaps, check_row_numbers, likelihood, listed, shown
from meow_lightning.types import AnswerRow

PREFIXES = {"forget": "forget", "retain": "retain", "real_authors": "ra", "world_facts": "wf"}
"""Beginning of the names of a set's metrics, by set."""

PROBABILITY, PARAPHRASE, WRONG, TEXTS = "Q_A_Prob", "Q_A_PARA_Prob", "Q_A_PERT_Prob", "Q_A_ROUGE"
RETAIN_AUCS = {"min_k_40": "mia_min_k"}
"""Metric that holds the AUC of a membership attack, by our name of the attack (its k is .4 by default)."""

METRICS = {
    name: tuple(
        f"{prefix}_{metric}"
        for metric in (PROBABILITY, PARAPHRASE, WRONG, TEXTS)
        if metric != PARAPHRASE or name in ("forget", "retain")
    )
    for name, prefix in PREFIXES.items()
}
"""Metrics that hold the rows of a set; real authors and world facts have no paraphrase."""

_ALL = frozenset(metric for metrics in METRICS.values() for metric in metrics)


def is_open_unlearning(log: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a log or summary of open-unlearning.

    Args:
        log: The content of a file.
    """
    return bool(_ALL & set(log)) or "forget_truth_ratio" in log


def rows_of(log: Mapping[str, Any], where: str) -> list[AnswerRow]:
    """Convert a log to prediction rows, in the order of :data:`PREFIXES`, then by row number.

    Each likelihood is a single token with the logged mean loss; the question is the whole decoded prompt. Sets without
    any metric are left out.

    Args:
        log: The content of a log.
        where: The option with its file, for error messages.

    Raises:
        UserError: A metric of a set is missing, or a row has a missing or invalid value.
    """
    present = [name for name, metrics in METRICS.items() if set(metrics) & set(log)]
    if not present or not any(isinstance(log[metric], dict) for metric in _ALL & set(log)):
        raise UserError(
            f"{where} has no rows: it contains {listed(log)}; give the TOFU_EVAL.json of the same evaluation, not its "
            "summary"
        )
    return [row for name in present for row in _set_rows(name, log, where)]


def retain_aucs(log: Mapping[str, Any], where: str) -> dict[str, float]:
    """Read the AUCs of membership attacks, by our names of the attacks; those that the log does not hold are left out.

    Args:
        log: The content of a log.
        where: The option with its file, for error messages.

    Raises:
        UserError: A value is no AUC.
    """
    found = {}
    for name, metric in RETAIN_AUCS.items():
        auc = log[metric].get("agg_value") if isinstance(log.get(metric), dict) else log.get(metric)
        if auc is None:
            continue
        if not isinstance(auc, (int, float)) or not 0 <= auc <= 1:
            raise UserError(f"{where}, {metric}: agg_value={shown(auc)} is invalid: expected an AUC, 0 to 1")
        found[name] = float(auc)
    return found


def _set_rows(name: str, log: Mapping[str, Any], where: str) -> list[AnswerRow]:
    tables = {metric: _table(metric, log, where) for metric in METRICS[name]}
    first = tables[METRICS[name][0]]
    check_row_numbers(first, f"{where}, {METRICS[name][0]}")
    check_no_gaps(first, f"{where}, {METRICS[name][0]}")
    for metric, table in tables.items():
        if different := sorted(set(first) ^ set(table)):
            raise UserError(
                f"{where}: {metric} and {METRICS[name][0]} have different rows ({different[0]} is in one of them "
                "only): expected metrics of one evaluation"
            )
    return [_row(name, index, {metric: table[str(index)] for metric, table in tables.items()}, where)
            for index in range(len(first))]  # fmt: skip


def _table(metric: str, log: Mapping[str, Any], where: str) -> dict[str, Any]:
    result = log.get(metric)
    if not isinstance(result, dict) or not isinstance(result.get("value_by_index"), dict):
        raise UserError(
            f"{where} has no rows of {metric}: expected {metric}: {{value_by_index: {{row number: values}}}}, as "
            "open-unlearning's evaluation of TOFU writes it; evaluate with its default metrics"
        )
    table: dict[str, Any] = result["value_by_index"]
    return table


def _row(name: str, index: int, values: Mapping[str, Any], where: str) -> AnswerRow:
    prefix, row = PREFIXES[name], f"{where}, row {index} of"
    texts = _entry(values, f"{prefix}_{TEXTS}", ("input", "ground_truth", "generation"), row)
    losses = {
        metric: _entry(values, f"{prefix}_{metric}", ("avg_loss",), row)[0]
        for metric in (PROBABILITY, PARAPHRASE, WRONG)
        if f"{prefix}_{metric}" in values
    }
    if not all(isinstance(text, str) for text in texts):
        raise UserError(f"{row} {prefix}_{TEXTS}: {shown(texts)} is invalid: expected three texts")
    wrong = losses[WRONG]
    if not (isinstance(wrong, list) and wrong):
        raise UserError(
            f"{row} {prefix}_{WRONG}: avg_loss={shown(wrong)} is invalid: expected a list of the wrong answers' mean "
            "losses"
        )
    paraphrase = losses.get(PARAPHRASE)
    return AnswerRow(
        set=name, index=index, fact=f"{name}-{index}", question=texts[0], answer=texts[1], value=None,
        truth=likelihood(losses[PROBABILITY], "avg_loss", f"{row} {prefix}_{PROBABILITY}"),
        paraphrase=None if paraphrase is None
        else likelihood(paraphrase, "avg_loss", f"{row} {prefix}_{PARAPHRASE}"),
        perturbed=tuple(likelihood(loss, "avg_loss", f"{row} {prefix}_{WRONG}") for loss in wrong),
        generated=(), text=texts[2], stop="length",
    )  # fmt: skip


def _entry(values: Mapping[str, Any], metric: str, names: tuple[str, ...], row: str) -> list[Any]:
    entry = values[metric]
    if not isinstance(entry, dict) or not set(names) <= set(entry):
        raise UserError(f"{row} {metric}: {shown(entry)} is invalid: expected the values {', '.join(names)}")
    return [entry[name] for name in names]
