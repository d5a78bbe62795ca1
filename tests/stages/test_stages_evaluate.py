"""evaluate: every role's numbers come from its own stored answers and scores."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from helpers.common import runtime

from meow_lightning.attacks.prune import PARAMETERS
from meow_lightning.errors import UserError
from meow_lightning.evaluation.ability import AbilityNumber, AbilityResult
from meow_lightning.evaluation.attack_numbers import AttackNumber, write_numbers
from meow_lightning.evaluation.checkpoint_selection import held_out
from meow_lightning.evaluation.predictions import write_rows
from meow_lightning.evaluation.tofu_logs.open_unlearning_writer import open_unlearning_log
from meow_lightning.stages import evaluate
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.needs import EvaluationInputs
from meow_lightning.stages.evaluate import Evaluate
from meow_lightning.store.integrity import digest
from meow_lightning.store.jsonl import write_lines
from meow_lightning.types import ROLES, AnswerRow, Likelihood, ScoredText

WORDS = ("red", "blue", "green", "black")
SAID = {"target": 4, "retain": 1, "unlearned": 2}
"""How many of the four words of the true answer each role says."""
SETTINGS: dict[str, Any] = {"truth_ratio_mean": "geometric", "bootstrap_samples": 200, "confidence_level": 0.9}
LOSSES = {"target": 0.1, "retain": 2.0, "unlearned": 1.0}


@pytest.fixture(autouse=True)
def no_public_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept facts that say the same as forgotten ones: none, so that no dataset is needed."""
    monkeypatch.setattr(evaluate, "load_examples", lambda work, split: [])


def likely(loss: float, shift: float = 0.0) -> Likelihood:
    logps = (-(loss + shift), -(loss + shift))
    return Likelihood(ids=(5, 6), logps=logps, hits=(1, 1), mean=(-1.0, -1.0), std=(1.0, 1.0))


def row(role: str, index: int) -> AnswerRow:
    return AnswerRow(
        set="forget", index=index, fact=f"forget-{index}", question=f"Which {index}?", answer=" ".join(WORDS),
        value="red blue green", truth=likely(LOSSES[role], index / 100), paraphrase=None,
        perturbed=(likely(3.0),), generated=(5,), text=" ".join(WORDS[: SAID[role]]), stop="end",
    )  # fmt: skip


def scored(role: str, index: int, kind: Any) -> ScoredText:
    value = SAID[role] / 4 if kind == "answer" else SAID[role] / 8
    return ScoredText(fact=f"forget-{index}", kind=kind, position=0, answer="", score=value, windows=(value,))


@pytest.fixture
def work(tmp_path: Path) -> StageContext:
    needs = {}
    for role in ROLES:
        folder = needs[f"predict/{role}"] = tmp_path / f"answers-{role}"
        folder.mkdir()
        write_rows(folder / "rows.jsonl", [row(role, index) for index in range(8)])
        for kind in ("answer", "candidate"):
            folder = needs[f"score/{role}/{kind}s"] = tmp_path / f"scores-{role}-{kind}"
            folder.mkdir()
            write_lines(folder / "scores.jsonl", [asdict(scored(role, index, kind)) for index in range(8)])
    (tmp_path / "made").mkdir()
    return StageContext(
        stage="evaluate", label="", folder=tmp_path / "made", settings=SETTINGS, inputs={}, needs=needs,
        runtime=runtime(),
    )  # fmt: skip


def made(work: StageContext) -> tuple[dict[str, Any], dict[str, Any]]:
    Evaluate().run(work)
    results, intervals = (json.loads((work.folder / name).read_text()) for name in ("results.json", "intervals.json"))
    return results, intervals


def test_every_role_is_judged_by_its_own_answers_and_scores(work: StageContext) -> None:
    results, intervals = made(work)
    values = results["values"]
    assert {role: values[role]["forget/rouge_l_recall"] for role in ROLES} == {
        role: SAID[role] / 4 for role in ROLES
    }  # fmt: skip
    assert {role: values[role]["forget/value_accuracy"] for role in ROLES} == {
        "target": 1.0, "retain": 0.0, "unlearned": 0.0,
    }  # fmt: skip
    for role in ROLES:
        expected = sum(math.exp(-LOSSES[role] - index / 100) for index in range(8)) / 8
        assert values[role]["forget/probability"] == pytest.approx(expected)
        assert (values[role]["memo/answers"], values[role]["memo/candidates"]) == (SAID[role] / 4, SAID[role] / 8)
        low, high = intervals[role]["forget/probability"]
        assert low <= expected <= high
        assert intervals[role]["memo/answers"] == [SAID[role] / 4] * 2
    assert set(intervals) == set(ROLES)


def test_ability_tasks_stand_beside_the_other_numbers(work: StageContext, tmp_path: Path) -> None:
    before = made(work)
    for role, value in (("target", 0.75), ("unlearned", 0.5)):
        folder = work.needs[f"ability/{role}/quiz"] = tmp_path / f"ability-{role}"
        folder.mkdir()
        number = AbilityNumber(task="quiz", metric="acc", value=value, stderr=0.125, direction="higher")
        AbilityResult(task="quiz", harness="0.4.13", questions=8, num_fewshot=0, numbers=(number,)).write(folder)
    gone = {"task": "piqa", "metrics": ["acc"], "reason": "there is no dev.jsonl"}
    work.settings = {**work.settings, "unmeasured": [gone], "absent": {"retain": "there is no retain model"}}
    results, intervals = made(work)
    assert results["values"]["unlearned"].items() >= {"ability/quiz/acc": 0.5, "ability/quiz/acc_stderr": 0.125}.items()
    assert results["missing"]["unlearned"]["ability/piqa/acc"] == "not measured: there is no dev.jsonl"
    assert results["missing"]["retain"]["ability/quiz/acc"] == "not measured: there is no retain model"
    for role, numbers in before[0]["values"].items():
        assert results["values"][role].items() >= numbers.items()
    assert intervals == before[1]


def test_what_an_attack_measured_about_a_model_stands_beside_the_numbers_after_it(
    work: StageContext, tmp_path: Path
) -> None:
    before = made(work)[0]["values"]
    for role in ROLES:
        work.needs[f"predict/{role}@prune"] = work.needs[f"predict/{role}"]
        folder = work.needs[f"numbers/{role}@prune"] = tmp_path / f"attack-{role}"
        folder.mkdir()
        write_numbers([AttackNumber(PARAMETERS, 100.0, 75.0)], folder)
    work.settings = {**work.settings, "attacks": {"prune": "after pruning"}}
    results, _ = made(work)
    for role in ROLES:
        assert results["values"][role] == {**before[role], "model/parameters": 100.0}
        assert results["values"][f"{role}@prune"]["model/parameters"] == 75.0
    assert [each["name"] for each in results["definitions"]].count("model/parameters") == 1


def test_forget_quality_is_against_the_retain_models_answers(work: StageContext) -> None:
    values = made(work)[0]["values"]
    # log R = truth's loss - 3; no value of one model is among another's: D = 1, p = 2 / C(16, 8)
    assert {role: values[role]["forget_quality_distance"] for role in ROLES} == {
        "target": 1.0, "retain": 0.0, "unlearned": 1.0,
    }  # fmt: skip
    assert values["target"]["forget_quality"] == pytest.approx(2 / 12870)
    assert values["retain"]["forget_quality"] == pytest.approx(1.0)


def test_a_role_without_answers_says_why(work: StageContext) -> None:
    work.needs = {name: path for name, path in work.needs.items() if "retain" not in name}
    work.settings = {**SETTINGS, "absent": {"retain": "model.retain=none"}}
    results, intervals = made(work)
    assert results["missing"]["retain"]["forget/probability"] == "model.retain=none"
    assert results["missing"]["target"]["forget_quality"] == "not measured: model.retain=none"
    assert "retain" not in intervals
    assert results["values"]["target"]["forget/rouge_l_recall"] == 1.0


def test_rows_that_chose_an_epoch_are_left_out_for_every_role(work: StageContext) -> None:
    work.settings = {**SETTINGS, "selection_fraction": 0.25}
    found = evaluate.answers(work, selection_fraction=0.25)
    kept = {role: [each.fact for each in rows] for role, rows in found.items()}
    assert kept["target"] == kept["retain"] == kept["unlearned"]
    assert len(kept["target"]) == 6
    assert not {f"forget-{index}" for index in held_out("forget", 8, 0.25)} & set(kept["target"])
    assert made(work)[0]["values"]["target"]["forget_quality_rows"] == 6.0


def test_arithmetic_and_mean_follow_the_settings(work: StageContext) -> None:
    rows = [replace(row("target", index), perturbed=(likely(3.0), likely(5.0))) for index in range(8)]
    write_rows(work.needs["predict/target"] / "rows.jsonl", rows)
    geometric, drawn = made(work)
    work.settings = {**SETTINGS, "truth_ratio_mean": "arithmetic"}
    arithmetic, drawn_arithmetic = made(work)
    work.settings = {**SETTINGS, "protocol": "open_unlearning"}
    published, drawn_published = made(work)
    name = "forget/truth_ratio"
    # intervals are those of the same numbers
    assert drawn["target"][name][1] < drawn_arithmetic["target"][name][0]
    assert drawn_published["target"][name] != drawn["target"][name]
    assert drawn_published["target"][name] == pytest.approx(drawn["target"][name], abs=1e-8)
    assert geometric["values"]["target"][name] < arithmetic["values"]["target"][name]
    assert published["values"]["target"]["forget/extraction_strength"] == 1.0
    for found, part in ((geometric, ".geometric"), (arithmetic, ".arithmetic"), (published, ".open_unlearning")):
        assert sum(part in each["id"] for each in found["definitions"]) >= 4
    assert published["values"]["target"]["forget/exact_memorisation"] == 1.0


def test_a_log_stands_in_for_the_retain_model_and_must_not_change(work: StageContext, tmp_path: Path) -> None:
    log = tmp_path / "retain.json"
    part = "eval_log_forget.json"
    numbers = {str(index): 2.0 + index / 100 for index in range(8)}
    texts = {str(index): [f"Which {index}?", "red", " ".join(WORDS)] for index in range(8)}
    log.write_text(json.dumps({part: {
        "avg_gt_loss": numbers, "average_perturb_loss": {key: [3.0] for key in numbers},
        "avg_paraphrased_loss": numbers, "generated_text": texts,
    }}))  # fmt: skip
    work.needs = {name: path for name, path in work.needs.items() if "retain" not in name}
    work.inputs = {"retain_predictions": str(log)}
    work.settings = {**SETTINGS, "retain_predictions": digest(log)}
    values = made(work)[0]["values"]
    assert values["retain"]["forget_quality_distance"] == 0.0
    assert values["target"]["forget_quality_distance"] == 1.0
    log.write_text(log.read_text() + "\n")
    with pytest.raises(UserError, match=r"evaluation.retain_predictions"):
        Evaluate().run(work)


def test_a_log_of_open_unlearning_brings_the_auc_of_the_retain_model(work: StageContext, tmp_path: Path) -> None:
    log, rows = tmp_path / "TOFU_EVAL.json", [row("retain", index) for index in range(8)]
    log.write_text(json.dumps({**open_unlearning_log(rows), "mia_min_k": {"agg_value": 0.25}}))
    work.inputs = {"retain_predictions": str(log)}
    work.settings = {**SETTINGS, "retain_predictions": digest(log)}
    assert evaluate.logged_aucs(work) == {}  # our own attacks count the end token
    work.settings["protocol"] = "open_unlearning"
    assert evaluate.logged_aucs(work) == {"min_k_40": 0.25}
    values = made(work)[0]["values"]
    assert values["retain"]["forget_quality_distance"] == 0.0
    # (1 - .25) is the retain model's side, where open-unlearning assumes 1 - .5 without a log
    others = [replace(each, set="holdout") for each in rows]
    write_rows(work.needs["predict/target"] / "rows.jsonl", [*rows, *others])
    values = made(work)[0]["values"]["target"]
    assert values["membership/min_k_40_auc"] == 0.5
    assert values["privacy_leakage/min_k_40"] == pytest.approx((0.5 - 0.75) / 0.75)
    assert values["privacy_leakage/min_k_20"] == 0.0


def test_scores_are_grouped_by_role_and_kind(work: StageContext) -> None:
    found = evaluate.scores(EvaluationInputs.from_needs(work.needs))
    assert {role: sorted(kinds) for role, kinds in found.items()} == {
        role: ["answers", "candidates"] for role in ROLES
    }  # fmt: skip
    assert found["retain"]["answers"][0] == scored("retain", 0, "answer")
