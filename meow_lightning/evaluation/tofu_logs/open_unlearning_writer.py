"""Writer of open-unlearning's evaluation log of TOFU, ``TOFU_EVAL.json``; its ``retain_logs_path`` takes the file."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import has_tokens
from meow_lightning.evaluation.metrics.membership import auc, min_k_attack
from meow_lightning.evaluation.metrics.probability import probability
from meow_lightning.evaluation.metrics.rouge import row_rouge_1_recall, row_rouge_l_recall
from meow_lightning.evaluation.predictions import by_set
from meow_lightning.evaluation.protocols import open_unlearning_metrics as published
from meow_lightning.evaluation.sets import set_info
from meow_lightning.evaluation.tofu_logs.open_unlearning import PARAPHRASE, PREFIXES, PROBABILITY, TEXTS, WRONG
from meow_lightning.evaluation.tofu_logs.writer import check_row, mean_loss
from meow_lightning.memo.rouge import window_score
from meow_lightning.types import AnswerRow, Likelihood

OpenUnlearningLog = dict[str, dict[str, Any]]
"""Metric -> ``agg_value`` and, where rows have values, ``value_by_index``."""

UTILITY_SETS = ("retain", "real_authors", "world_facts")
MIN_K = min_k_attack(0.4)
_LARGEST_LOG = 700.0  # exp overflows a little beyond this


def open_unlearning_log(rows: Sequence[AnswerRow]) -> OpenUnlearningLog:
    """Convert one model's predictions to a log of open-unlearning; :func:`~.reader.read_log` reads it back.

    Of its evaluation of TOFU the log holds, with its formulas (:mod:`~.protocols.open_unlearning_metrics`):

    - of each of the four sets the probabilities and mean losses of the true answer, its paraphrase (forget and retain)
      and the wrong answers, the texts with ROUGE recall, and the truth ratios;
    - the normalised probabilities of real authors and world facts, and with the three sets model utility;
    - of the forget set exact memorisation and extraction strength, with a holdout set also the attack Min-K% (k = .4),
      where rows have per-token likelihoods.

    Numbers that need a second model (forget quality, privacy leakage) and the other attacks are left out. The numbers
    are open-unlearning's only for rows that were predicted under its protocol.

    Args:
        rows: The prediction rows of one model, in any order; each set complete or absent.

    Raises:
        UserError: None of the four sets is given, one is incomplete, or a row has no wrong answers or no finite loss.
    """
    sets = by_set(row for row in rows if row.set in PREFIXES or row.set == "holdout")
    if not set(sets) & set(PREFIXES):
        given = ", ".join(sorted({repr(row.set) for row in rows})) or "no rows"
        raise UserError(
            f"these predictions contain {given}: expected at least one of the sets {', '.join(PREFIXES)}; use a run "
            "that evaluates one of them"
        )
    log: OpenUnlearningLog = {}
    for name, prefix in PREFIXES.items():
        if name in sets:
            log |= {f"{prefix}_{metric}": result for metric, result in _set_metrics(name, sets[name]).items()}
    if all(name in sets for name in UTILITY_SETS):
        log["model_utility"] = {"agg_value": statistics.harmonic_mean([_utility_input(log, each) for each in _NINE])}
    return dict(sorted({**log, **_token_metrics(sets.get("forget", []), sets.get("holdout", []))}.items()))


_NINE = (
    *(f"{prefix}_{metric}" for prefix in ("retain", "ra", "wf") for metric in (TEXTS, "Truth_Ratio")),
    "retain_Q_A_Prob", "ra_Q_A_Prob_normalised", "wf_Q_A_Prob_normalised",
)  # fmt: skip


def _utility_input(log: OpenUnlearningLog, metric: str) -> float:
    return float(log[metric]["agg_value"])


def _set_metrics(name: str, rows: Sequence[AnswerRow]) -> OpenUnlearningLog:
    """Compute the metrics of one set, by name without the set's prefix."""
    for row in rows:
        check_row(row)
    info = set_info(name)
    found = {
        PROBABILITY: _metric(rows, lambda row: _probabilities(row.truth), key="prob"),
        WRONG: _wrong(rows),
        TEXTS: _metric(rows, _texts, key="rougeL_recall"),
    }
    if name in ("forget", "retain"):
        found[PARAPHRASE] = _metric(rows, lambda row: _probabilities(row.paraphrase or row.truth), key="prob")
    if info.scoring == "options":
        found[f"{PROBABILITY}_normalised"] = _metric(
            rows, lambda row: {"prob": published.row_probability(row, info)}, key="prob"
        )
    ratios = _metric(rows, lambda row: {"score": math.exp(min(_LARGEST_LOG, published.row_log_truth_ratio(row)))})
    ratios["agg_value"] = statistics.fmean(published.row_truth_ratio(row, info) for row in rows)
    return {**found, "truth_ratio" if name == "forget" else "Truth_Ratio": ratios}


def _token_metrics(forget: Sequence[AnswerRow], holdout: Sequence[AnswerRow]) -> OpenUnlearningLog:
    if not forget or not all(has_tokens(row.truth) for row in (*forget, *holdout)):
        return {}
    info = set_info("forget")
    found = {
        "exact_memorization": _metric(forget, lambda row: {"score": published.row_exact_memorisation(row, info)}),
        "extraction_strength": _metric(forget, lambda row: {"score": published.row_extraction_strength(row, info)}),
    }
    if holdout:
        # there, a higher score means a text that is less likely to be a member
        sides = {
            name: _metric(rows, lambda row: {"score": -published.attack_score(MIN_K, row)})
            for name, rows in (("forget", forget), ("holdout", holdout))
        }
        members, others = ([-each["score"] for each in side["value_by_index"].values()] for side in sides.values())
        area = auc(members, others)
        found["mia_min_k"] = {**sides, "auc": area, "agg_value": area}
    return found


def _metric(
    rows: Sequence[AnswerRow], values: Callable[[AnswerRow], dict[str, Any]], *, key: str = "score"
) -> dict[str, Any]:
    """Collect the values of every row, and average one of them over the rows that have it."""
    by_index = {str(row.index): values(row) for row in rows}
    counted = [each[key] for each in by_index.values() if each[key] is not None]
    return {"agg_value": statistics.fmean(counted) if counted else None, "value_by_index": by_index}


def _wrong(rows: Sequence[AnswerRow]) -> dict[str, Any]:
    by_index = {}
    for row in rows:
        answers = [_probabilities(wrong) for wrong in row.perturbed]
        by_index[str(row.index)] = {name: [each[name] for each in answers] for name in ("prob", "avg_loss")}
    return {
        "agg_value": statistics.fmean(statistics.fmean(each["prob"]) for each in by_index.values()),
        "value_by_index": by_index,
    }


def _probabilities(likelihood: Likelihood) -> dict[str, float]:
    return {"prob": probability(likelihood.logps), "avg_loss": mean_loss(likelihood)}


def _texts(row: AnswerRow) -> dict[str, Any]:
    f_measure = window_score(row.text, row.answer, rouge="rougeL", rouge_stat="fmeasure", kind="published")
    return {
        "rouge1_recall": row_rouge_1_recall(row, kind="published"),
        "rougeL_f1": f_measure,
        "rougeL_recall": row_rouge_l_recall(row, kind="published"),
        "input": row.question,
        "ground_truth": row.answer,
        "generation": row.text,
    }
