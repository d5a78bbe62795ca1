"""The numbers of TOFU's published logs, recomputed: no model is needed to check the arithmetic."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from meow_lightning.evaluation.metrics.forget_quality import forget_quality
from meow_lightning.evaluation.metrics.rouge import row_rouge_l_recall
from meow_lightning.evaluation.metrics.truth_ratio import row_log_truth_ratio
from meow_lightning.evaluation.suite import evaluate
from meow_lightning.types import AnswerRow, Likelihood, Results

DATA = os.environ.get("MEOW_DATA_DIR")
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(DATA is None, reason="MEOW_DATA_DIR is not set: the published logs are not here"),
]

PARTS = {
    "forget": "eval_log_forget.json",
    "retain": "eval_log.json",
    "real_authors": "eval_real_author_wo_options.json",
    "world_facts": "eval_real_world_wo_options.json",
}


def _likelihood(mean_loss: float) -> Likelihood:
    # the log holds the mean over the tokens, which one token of that value has too
    return Likelihood(ids=(0,), logps=(-mean_loss,), hits=(0,), mean=(0.0,), std=(0.0,))


@cache
def log(model: str) -> dict[str, Any]:
    return json.loads((Path(str(DATA)) / "tofu_logs" / f"{model}.json").read_text(encoding="utf-8"))


@cache
def rows_of(model: str) -> list[AnswerRow]:
    rows = []
    for name, part in PARTS.items():
        table = log(model)[part]
        for key, (question, text, answer) in table["generated_text"].items():
            # where a set has no paraphrase the log holds the true answer scored a second time, in another batch: up to
            # 0.12 nats off the first. The published truth ratios come from that second value.
            paraphrase = _likelihood(table["avg_paraphrased_loss"][key])
            rows.append(
                AnswerRow(
                    set=name,
                    index=int(key),
                    fact=f"{name}-{key}",
                    question=question,
                    answer=answer,
                    value=None,
                    truth=_likelihood(table["avg_gt_loss"][key]),
                    paraphrase=paraphrase,
                    perturbed=tuple(_likelihood(loss) for loss in table["average_perturb_loss"][key]),
                    generated=(),
                    text=text,
                    stop="length",
                )
            )
    return rows


@cache
def results(family: str, mean: str) -> Results:
    roles = {"target": rows_of(f"{family}_full"), "retain": rows_of(f"{family}_retain90")}
    return evaluate(roles, {}, truth_ratio_mean=mean)


@pytest.mark.parametrize(
    ("family", "mean", "full", "retain"),
    [
        ("llama2-7b", "geometric", 0.622677, 0.613745),
        ("llama2-7b", "arithmetic", 0.585886, 0.575240),
        ("phi", "geometric", 0.522074, 0.531991),
        ("phi", "arithmetic", 0.503353, 0.513001),
    ],
)
def test_model_utility(family: str, mean: str, full: float, retain: float) -> None:
    values = results(family, mean).values
    assert values["target"]["model_utility"] == pytest.approx(full, abs=5e-7)
    assert values["retain"]["model_utility"] == pytest.approx(retain, abs=5e-7)


@pytest.mark.parametrize(
    ("family", "distance", "p"), [("llama2-7b", 0.396667, 1.834066e-21), ("phi", 0.346667, 2.194274e-16)]
)
def test_forget_quality_of_the_full_model(family: str, distance: float, p: float) -> None:
    values = results(family, "geometric").values
    assert values["target"]["forget_quality_distance"] == pytest.approx(distance, abs=5e-7)
    assert values["target"]["forget_quality"] == pytest.approx(p, rel=5e-7, abs=0)
    assert values["target"]["forget_quality_rows"] == 300
    assert (values["retain"]["forget_quality"], values["retain"]["forget_quality_distance"]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("family", "role", "probability", "rouge", "ratio"),
    [
        ("llama2-7b", "target", 0.990939, 0.985450, 0.515985),
        ("llama2-7b", "retain", 0.147563, 0.408244, 0.674019),
        ("phi", "target", 0.928239, 0.924861, 0.483356),
        ("phi", "retain", 0.134907, 0.427867, 0.628842),
    ],
)
def test_forget_set(family: str, role: str, probability: float, rouge: float, ratio: float) -> None:
    values = results(family, "geometric").values[role]
    assert values["forget/probability"] == pytest.approx(probability, abs=5e-7)
    assert values["forget/rouge_l_recall"] == pytest.approx(rouge, abs=5e-7)
    assert values["forget/truth_ratio"] == pytest.approx(ratio, abs=5e-7)


NINE = {
    "llama2-7b": (0.989527, 0.985655, 0.474699, 0.455482, 0.933000, 0.596229, 0.418562, 0.882479, 0.539033),
    "phi": (0.926088, 0.929253, 0.482683, 0.377360, 0.415667, 0.456009, 0.408998, 0.777350, 0.492337),
}


@pytest.mark.parametrize("family", NINE)
def test_the_nine_inputs_of_model_utility(family: str) -> None:
    values = results(family, "geometric").values["target"]
    sets, numbers = ("retain", "real_authors", "world_facts"), ("probability", "rouge_l_recall", "truth_ratio")
    computed = [values[f"{name}/{number}"] for name in sets for number in numbers]
    assert computed == pytest.approx(NINE[family], abs=5e-7)


def test_logged_rouge_row_by_row() -> None:
    logged = log("llama2-7b_retain90")
    for row in rows_of("llama2-7b_retain90"):
        assert row_rouge_l_recall(row) == logged[PARTS[row.set]]["rougeL_recall"][str(row.index)]


def test_the_mean_changes_forget_quality() -> None:
    sides = []
    for model in ("phi_full", "phi_retain90"):
        rows = [row for row in rows_of(model) if row.set == "forget"]
        sides.append([row_log_truth_ratio(row, mean="arithmetic") for row in rows])
    assert forget_quality(*sides).p != pytest.approx(2.194274e-16, rel=0.01, abs=0)
    assert results("phi", "arithmetic").values["target"]["forget_quality"] == forget_quality(*sides).p
