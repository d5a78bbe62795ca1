"""Logs of open-unlearning, ``TOFU_EVAL.json``: worked by hand, and what is wrong with one."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.common import failure, told

from meow_lightning.errors import UserError
from meow_lightning.evaluation.tofu_logs import open_unlearning
from meow_lightning.evaluation.tofu_logs.open_unlearning import METRICS, is_open_unlearning
from meow_lightning.evaluation.tofu_logs.reader import read_log, read_retain_aucs

Write = Callable[[str, Any], Path]


def metric(values: Sequence[Mapping[str, Any]], agg_value: float = 0.0) -> dict[str, Any]:
    return {"agg_value": agg_value, "value_by_index": {str(index): dict(each) for index, each in enumerate(values)}}


def losses(*probabilities: float) -> dict[str, Any]:
    return metric([{"prob": each, "avg_loss": -math.log(each)} for each in probabilities])


def wrong(*rows: Sequence[float]) -> dict[str, Any]:
    return metric([{"prob": list(row), "avg_loss": [-math.log(each) for each in row]} for row in rows])


def texts(*rows: tuple[str, str, str]) -> dict[str, Any]:
    names = ("input", "ground_truth", "generation")
    return metric([{**dict(zip(names, row, strict=True)), "rougeL_recall": 0.0} for row in rows])


def forget(*ratios: float) -> dict[str, Any]:
    """The forget metrics of a model whose truth ratios these are: all wrong answers are equally likely."""
    asked = [("user\n\nWhere was Ada born?", "Lima", "Lima"), ("user\n\nWhere was Bob born?", "Oslo", "Rome")]
    return {
        "forget_Q_A_Prob": losses(*[1 / 4] * len(ratios)),
        "forget_Q_A_PARA_Prob": losses(*[1 / 16] * len(ratios)),
        "forget_Q_A_PERT_Prob": wrong(*[(ratio / 16,) * 2 for ratio in ratios]),
        "forget_Q_A_ROUGE": texts(*asked[: len(ratios)]),
        "forget_truth_ratio": metric([{"score": ratio} for ratio in ratios]),
    }


LOG = {
    **forget(1 / 2, 2),
    "ra_Q_A_Prob": losses(1 / 2, 1 / 8),
    "ra_Q_A_PERT_Prob": wrong((1 / 4, 1 / 4), (1 / 4, 1 / 8)),
    "ra_Q_A_ROUGE": texts(("Who?", "Jane Austen", "Jane Eyre"), ("Who else?", "Homer", "Homer")),
    "mia_min_k": {
        "forget": metric([{"score": 1.0}]),
        "holdout": metric([{"score": 2.0}]),
        "auc": 1.0,
        "agg_value": 1.0,
    },
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return to


def test_every_number_by_hand(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = told(capsys, write("TOFU_EVAL.json", LOG))
    # real authors: 1/2 of 1, 1/8 of 4/8; R = 1/2 and sqrt(1/32) / (1/8) > 1
    assert numbers["geometric"] == pytest.approx({
        "forget/probability": 1 / 4, "forget/rouge_l_recall": 1 / 2, "forget/truth_ratio": 1 / 2,
        "real_authors/probability": 3 / 8, "real_authors/rouge_l_recall": 3 / 4, "real_authors/truth_ratio": 1 / 4,
    })  # fmt: skip
    assert numbers["missing"]["retain/probability"].endswith("contains neither eval_log.json nor retain_Q_A_Prob")


def test_rows_hold_texts_and_losses(write: Write) -> None:
    first, second, author, _ = read_log(write("TOFU_EVAL.json", LOG), option="LOG")
    assert (first.set, first.index, first.fact, first.stop) == ("forget", 0, "forget-0", "length")
    assert (second.question, second.answer, second.text) == ("user\n\nWhere was Bob born?", "Oslo", "Rome")
    assert second.truth.logps == (math.log(1 / 4),)
    assert second.paraphrase is not None
    assert [each.logps for each in (second.paraphrase, *second.perturbed)] == [
        (math.log(1 / 16),), (math.log(1 / 8),), (math.log(1 / 8),),
    ]  # fmt: skip
    assert (author.set, author.paraphrase, len(author.perturbed)) == ("real_authors", None, 2)


def test_it_stands_beside_a_log_of_tofu(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    part = {
        "generated_text": {"0": ["[INST] Where was Ada born? [/INST]", "", "Lima"],
                           "1": ["[INST] Where was Bob born? [/INST]", "", "Oslo"]},
        "avg_gt_loss": {"0": 1.0, "1": 1.0},
        "avg_paraphrased_loss": {"0": math.log(16), "1": math.log(16)},
        "average_perturb_loss": {"0": [math.log(4)], "1": [math.log(2)]},
    }  # fmt: skip
    retain = write("retain.json", {"eval_log_forget.json": part})
    numbers = told(capsys, write("TOFU_EVAL.json", LOG), "--retain", retain)
    # R of this model: 1/2 and 2; of the retain model: 4 and 8, all above
    assert numbers["geometric"]["forget_quality"]["distance"] == 1.0
    assert numbers["geometric"]["forget_quality"]["p"] == pytest.approx(1 / 3)


def test_aucs_of_the_retain_model(write: Write) -> None:
    assert read_retain_aucs(write("TOFU_EVAL.json", LOG), option="LOG") == {"min_k_40": 1.0}
    without = {name: each for name, each in LOG.items() if name != "mia_min_k"}
    assert read_retain_aucs(write("without.json", without), option="LOG") == {}
    assert open_unlearning.retain_aucs({"mia_min_k": {"agg_value": None}}, "LOG") == {}
    assert read_retain_aucs(write("other.json", {"eval_log_forget.json": {}}), option="LOG") == {}
    for wrong in ({"agg_value": "high"}, {"agg_value": 1.5}, "high"):
        with pytest.raises(UserError, match=r"^LOG, mia_min_k: agg_value=.* is invalid: expected an AUC"):
            open_unlearning.retain_aucs({"mia_min_k": wrong}, "LOG")


def test_a_log_is_recognised_by_its_metrics() -> None:
    assert is_open_unlearning({"forget_truth_ratio": {}})
    assert is_open_unlearning({"wf_Q_A_ROUGE": {}})
    assert not is_open_unlearning({"eval_log_forget.json": {}, "model_utility": {}})


def changed(path: str, value: Any) -> dict[str, Any]:
    """The log with another value at a path of keys; ``None`` removes it."""
    log = copy.deepcopy(LOG)
    *folders, last = path.split("/")
    place: Any = log
    for folder in folders:
        place = place[folder]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return log


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ({"forget_truth_ratio": 0.5, "forget_Q_A_Prob": 0.1}, "TOFU_EVAL.json of the same evaluation, not its summary"),
        ({"forget_truth_ratio": metric([])}, "has no rows: it contains 'forget_truth_ratio'"),
        (changed("forget_Q_A_PARA_Prob", None), "has no rows of forget_Q_A_PARA_Prob: expected"),
        (changed("ra_Q_A_ROUGE/value_by_index", None), "has no rows of ra_Q_A_ROUGE: expected"),
        (changed("ra_Q_A_ROUGE/value_by_index/1", None), "ra_Q_A_ROUGE and ra_Q_A_Prob have different rows (1 is in"),
        (changed("ra_Q_A_Prob/value_by_index", {"0": {}, "2": {}}), "ra_Q_A_Prob: row 1 is missing from 2 rows"),
        (changed("ra_Q_A_Prob/value_by_index", {}), "ra_Q_A_Prob has no rows"),
        (changed("forget_Q_A_Prob/value_by_index/1", {"prob": 1}), "row 1 of forget_Q_A_Prob: {'prob': 1} is invalid"),
        (changed("forget_Q_A_Prob/value_by_index/1/avg_loss", -5), "row 1 of forget_Q_A_Prob: avg_loss=-5 is invalid"),
        (changed("forget_Q_A_PERT_Prob/value_by_index/0/avg_loss", []), "row 0 of forget_Q_A_PERT_Prob: avg_loss=[]"),
        (changed("forget_Q_A_ROUGE/value_by_index/0/generation", 3), "row 0 of forget_Q_A_ROUGE: "),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_log(log: Any, reason: str, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert reason in failure(capsys, write("TOFU_EVAL.json", log))


def test_real_authors_and_world_facts_have_no_paraphrase() -> None:
    assert {name: len(metrics) for name, metrics in METRICS.items()} == {
        "forget": 4, "retain": 4, "real_authors": 3, "world_facts": 3,
    }  # fmt: skip
