"""Predictions as open-unlearning logs them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.common import told

from meow_lightning.errors import UserError
from meow_lightning.evaluation.__main__ import main
from meow_lightning.evaluation.predictions import write_rows
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.evaluation.tofu_logs.open_unlearning_writer import open_unlearning_log
from meow_lightning.evaluation.tofu_logs.reader import read_log, read_retain_aucs
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]


@pytest.fixture
def rows(make_row: MakeRow) -> list[AnswerRow]:
    trained = {"paraphrase": (-0.3, -1.1, -0.7), "perturbed": ((-1.7, -0.9), (-2.3,), (-0.2, -0.1, -0.4))}
    options = {"perturbed": ((-2.2, -1.4), (-0.6,), (-3.1, -0.3, -0.9))}
    asked = {"answer": "Dee was born in Lima", "text": "Born in Lima was Dee"}
    return [
        make_row("forget", 0, truth=(-0.01, -0.6, -1.0, -0.2), hits=(0, 1, 0, 1), **trained, **asked),
        make_row("forget", 1, truth=(-1.9, -0.6, -0.1, -3.0), hits=(1, 1, 1, 0), **trained, answer="Oslo", text="Oslo"),
        make_row("holdout", 0, truth=(-2.5, -0.4, -0.1, -0.2), **asked),
        make_row("holdout", 1, truth=(-0.5, -0.7, -0.1, -9.0), **asked),
        make_row("retain", 0, truth=(-0.03, -0.01, -0.2), **trained, **asked),
        make_row("real_authors", 0, truth=(-0.11,), **options, answer="Jane Austen", text="Jane Eyre"),
        make_row("world_facts", 0, truth=(-0.7, -0.1), **options, answer="Paris", text="in Paris"),
    ]


def test_every_value_by_hand(make_row: MakeRow) -> None:
    row = make_row(
        truth=(-1.0, -2.0), hits=(0, 1), paraphrase=(-0.5, -1.5, -1.0), perturbed=((-1.0, -3.0), (-4.0,)),
        question="Where was Dee born?", answer="in the town of Lima", text="Lima in the town",
    )  # fmt: skip
    log = open_unlearning_log([row])
    assert list(log) == sorted(log)
    p, ratio = [math.exp(-each) for each in (1.5, 1.0, 2.0, 4.0)], math.exp(-3) / (math.exp(-1) + 1e-10)
    assert log["forget_Q_A_Prob"] == {"agg_value": p[0], "value_by_index": {"0": {"prob": p[0], "avg_loss": 1.5}}}
    assert log["forget_Q_A_PARA_Prob"]["value_by_index"]["0"] == {"prob": p[1], "avg_loss": 1.0}
    assert log["forget_Q_A_PERT_Prob"] == {
        "agg_value": pytest.approx((p[2] + p[3]) / 2),
        "value_by_index": {"0": {"prob": p[2:], "avg_loss": [2.0, 4.0]}},
    }
    # four of the five words come back, three of them in order
    assert log["forget_Q_A_ROUGE"] == {"agg_value": 3 / 5, "value_by_index": {"0": {
        "rouge1_recall": 4 / 5, "rougeL_f1": pytest.approx(2 / 3), "rougeL_recall": 3 / 5,
        "input": "Where was Dee born?", "ground_truth": "in the town of Lima", "generation": "Lima in the town",
    }}}  # fmt: skip
    assert log["forget_truth_ratio"]["value_by_index"]["0"]["score"] == pytest.approx(ratio, rel=1e-12)
    assert log["forget_truth_ratio"]["agg_value"] == pytest.approx(ratio, rel=1e-12)
    assert log["exact_memorization"]["value_by_index"] == {"0": {"score": 0.0}}  # without the end token
    assert log["extraction_strength"]["agg_value"] == 1.0  # 1 / T where nothing matches
    assert not {"model_utility", "mia_min_k", "forget_quality", "privleak"} & set(log)


def test_the_attack_scores_members_lower(rows: list[AnswerRow]) -> None:
    log = open_unlearning_log(rows)
    # k = .4 of three tokens is the least likely one; the end token is left out
    scores = {name: log["mia_min_k"][name]["value_by_index"] for name in ("forget", "holdout")}
    assert scores == {
        "forget": {"0": {"score": 1.0}, "1": {"score": 1.9}}, "holdout": {"0": {"score": 2.5}, "1": {"score": 0.7}},
    }  # fmt: skip
    assert log["mia_min_k"]["holdout"]["agg_value"] == 1.6
    assert log["mia_min_k"]["auc"] == log["mia_min_k"]["agg_value"] == 0.5
    assert log["exact_memorization"]["agg_value"] == pytest.approx((1 / 3 + 1) / 2)
    assert log["extraction_strength"]["agg_value"] == pytest.approx((1 / 3 + 1) / 2)


def test_what_is_written_is_read_with_the_same_numbers(
    rows: list[AnswerRow], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path / "rows.jsonl", rows)
    out = tmp_path / "TOFU_EVAL.json"
    words = [tmp_path / "rows.jsonl", "--write", out, "--format", "open_unlearning"]
    assert told(capsys, *words) == {
        "log": str(out), "left_out": {},
        "questions": {"forget": 2, "retain": 1, "real_authors": 1, "world_facts": 1, "holdout": 2},
    }  # fmt: skip
    log = json.loads(out.read_text(encoding="utf-8"))
    given, logged = (
        evaluate({"target": each}, {}, truth_ratio_mean="geometric", protocol="open_unlearning").values["target"]
        for each in (rows, read_log(out, option="LOG"))
    )
    names = {
        "model_utility": "model_utility", "forget/probability": "forget_Q_A_Prob",
        "forget/rouge_l_recall": "forget_Q_A_ROUGE", "forget/truth_ratio": "forget_truth_ratio",
        "retain/truth_ratio": "retain_Truth_Ratio", "real_authors/probability": "ra_Q_A_Prob_normalised",
        "world_facts/rouge_l_recall": "wf_Q_A_ROUGE",
    }  # fmt: skip
    for ours, theirs in names.items():
        assert (
            given[ours] == pytest.approx(logged[ours], rel=1e-12) == pytest.approx(log[theirs]["agg_value"], rel=1e-12)
        )
    assert given["membership/min_k_40_auc"] == read_retain_aucs(out, option="LOG")["min_k_40"]
    for ours, theirs in (("exact_memorisation", "exact_memorization"), ("extraction_strength",) * 2):
        assert given[f"forget/{ours}"] == pytest.approx(log[theirs]["agg_value"])
    # rows of a log have no tokens, so their log has no numbers of tokens
    assert not {"mia_min_k", "exact_memorization"} & set(open_unlearning_log(read_log(out, option="LOG")))


def test_rows_without_a_set_of_the_form_are_an_error(make_row: MakeRow) -> None:
    with pytest.raises(UserError, match="these predictions contain 'holdout': expected at least one of the sets"):
        open_unlearning_log([make_row("holdout", 0)])
    with pytest.raises(UserError, match="has no wrong"):
        open_unlearning_log([make_row("forget", 0, perturbed=())])


def test_the_form_is_for_writing_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["log.json", "--format", "open_unlearning"])
    assert stopped.value.code == 2
    assert "--format requires --write OUT" in capsys.readouterr().err
