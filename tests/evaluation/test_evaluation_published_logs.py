"""The numbers of TOFU's published logs, recomputed: no model is needed to check the arithmetic."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.__main__ import main, report
from meow_lightning.evaluation.metrics import rouge
from meow_lightning.evaluation.metrics.forget_quality import forget_quality
from meow_lightning.evaluation.metrics.rouge import row_rouge_l_recall
from meow_lightning.evaluation.metrics.truth_ratio import row_log_truth_ratio
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.evaluation.tofu_logs.reader import PARTS, read_log
from meow_lightning.types import AnswerRow, Results

DATA = os.environ.get("MEOW_DATA_DIR")
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(DATA is None, reason="MEOW_DATA_DIR is not set: the published logs are not here"),
]


def path(model: str) -> Path:
    return Path(str(DATA)) / "tofu_logs" / f"{model}.json"


@cache
def log(model: str) -> dict[str, Any]:
    return json.loads(path(model).read_text(encoding="utf-8"))


@cache
def rows_of(model: str) -> list[AnswerRow]:
    return read_log(path(model), option="log")


@pytest.fixture(scope="module", autouse=True)
def _each_text_once() -> Iterator[None]:
    # both means and all pairs meet the same texts again, and ROUGE takes most of the time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rouge, "rouge_l_recall", cache(rouge.rouge_l_recall))
        yield


@cache
def results(family: str, mean: str) -> Results:
    roles = {"target": rows_of(f"{family}_full"), "retain": rows_of(f"{family}_retain90")}
    return evaluate(roles, {}, truth_ratio_mean=mean, words="published")


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


def test_metrics_that_a_log_lacks_are_missing_with_a_reason() -> None:
    found = results("llama2-7b", "geometric")
    values, missing = found.values["target"], found.missing["target"]
    for name in ("forget/exact_memorisation", "retain/extraction_strength", "forget/ended"):
        assert missing[name].endswith("they come from a log")
    assert missing["membership/loss_auc"].startswith("not measured: the dataset has no set 'holdout'")
    # the full model recites, so its words come back in order or not; the retain model's wrong answers read as well
    assert values["forget/rouge_1_recall"] > 0.98
    assert found.values["retain"]["forget/fluency"] == pytest.approx(values["forget/fluency"], abs=0.02)


def test_logged_rouge_row_by_row() -> None:
    logged = log("llama2-7b_retain90")
    for row in rows_of("llama2-7b_retain90"):
        assert row_rouge_l_recall(row, kind="published") == logged[PARTS[row.set]]["rougeL_recall"][str(row.index)]


def test_the_mean_changes_forget_quality() -> None:
    sides = []
    for model in ("phi_full", "phi_retain90"):
        rows = [row for row in rows_of(model) if row.set == "forget"]
        sides.append([row_log_truth_ratio(row, mean="arithmetic") for row in rows])
    assert forget_quality(*sides).p != pytest.approx(2.194274e-16, rel=0.01, abs=0)
    assert results("phi", "arithmetic").values["target"]["forget_quality"] == forget_quality(*sides).p


@cache
def told(model: str, retain: str | None = None) -> dict[str, Any]:
    """What the command reports; only retain90 was asked the questions that the full model was."""
    unpaired = retain is not None and not retain.endswith("retain90")
    return report(path(model), None if retain is None else path(retain), unpaired=unpaired)


# model utility under both means, then the forget set's probability, ROUGE-L recall and truth ratio (geometric)
GOLDEN = {
    "llama2-7b_full": (0.622677, 0.585886, 0.990939, 0.985450, 0.515985),
    "llama2-7b_retain90": (0.613745, 0.575240, 0.147563, 0.408244, 0.674019),
    "llama2-7b_retain95": (0.600577, 0.561296, 0.154716, 0.398000, 0.674147),
    "llama2-7b_retain99": (0.620744, 0.581165, 0.179521, 0.397237, 0.684941),
    "phi_full": (0.522074, 0.503353, 0.928239, 0.924861, 0.483356),
    "phi_retain90": (0.531991, 0.513001, 0.134907, 0.427867, 0.628842),
    "phi_retain95": (0.524959, 0.506979, 0.136710, 0.428533, 0.626941),
    "phi_retain99": (0.518603, 0.498613, 0.171090, 0.437849, 0.644595),
}


@pytest.mark.parametrize("model", GOLDEN)
def test_the_command_on_every_log(model: str) -> None:
    numbers = told(model)
    geometric = numbers["geometric"]
    computed = [geometric["model_utility"], numbers["arithmetic"]["model_utility"]]
    computed += [geometric[f"forget/{number}"] for number in ("probability", "rouge_l_recall", "truth_ratio")]
    assert computed == pytest.approx(GOLDEN[model], abs=5e-7)
    assert set(numbers["missing"]) == {"forget_quality"}


ARITHMETIC = {"llama2-7b": (0.453867, 0.505160, 0.423055), "phi": (0.459087, 0.403939, 0.437999)}


@pytest.mark.parametrize("family", ARITHMETIC)
def test_the_command_gives_the_nine_inputs_under_both_means(family: str) -> None:
    numbers = told(f"{family}_full")
    sets, kinds = ("retain", "real_authors", "world_facts"), ("probability", "rouge_l_recall", "truth_ratio")
    nine = [numbers["geometric"][f"{name}/{kind}"] for name in sets for kind in kinds]
    assert nine == pytest.approx(NINE[family], abs=5e-7)
    ratios = [numbers["arithmetic"][f"{name}/truth_ratio"] for name in sets]
    assert ratios == pytest.approx(ARITHMETIC[family], abs=5e-7)


@pytest.mark.parametrize(
    ("family", "split", "distance", "p", "rows_retain"),
    [
        ("llama2-7b", "retain90", 0.396667, 1.834066e-21, 300),
        ("llama2-7b", "retain95", 0.380000, 6.504459e-16, 200),
        ("llama2-7b", "retain99", 0.428333, 2.345177e-06, 40),
        ("phi", "retain90", 0.346667, 2.194274e-16, 300),
        ("phi", "retain95", 0.341667, 6.866558e-13, 200),
        ("phi", "retain99", 0.371667, 7.367328e-05, 40),
    ],
)
def test_the_command_on_every_pair(family: str, split: str, distance: float, p: float, rows_retain: int) -> None:
    quality = told(f"{family}_full", f"{family}_{split}")["geometric"]["forget_quality"]
    assert quality["distance"] == pytest.approx(distance, abs=5e-7)
    assert quality["p"] == pytest.approx(p, rel=5e-7, abs=0)
    assert 10 ** quality["log10_p"] == pytest.approx(p, rel=5e-7, abs=0)
    assert (quality["rows"], quality["rows_retain"], quality["paired"]) == (300, rows_retain, split == "retain90")


def test_the_command_refuses_other_questions() -> None:
    with pytest.raises(
        UserError, match=r"phi_full\.json contains 300 forget questions, \S*phi_retain95\.json contains 200 "
    ):
        report(path("phi_full"), path("phi_retain95"), unpaired=False)


def test_decoded_blanks_and_the_tags_of_a_family_do_not_make_other_questions() -> None:
    # the decoded answers of the two families are the same but for a blank before one comma
    found = report(path("phi_full"), path("llama2-7b_retain90"), unpaired=False)
    assert (found["geometric"]["forget_quality"]["rows"], found["geometric"]["forget_quality"]["paired"]) == (300, True)


def test_the_command_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(path("phi_full")), "--retain", str(path("phi_retain90"))]) == 0
    assert json.loads(capsys.readouterr().out) == told("phi_full", "phi_retain90")
