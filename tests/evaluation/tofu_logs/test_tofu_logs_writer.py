from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.common import failure, told

from meow_lightning.errors import UserError
from meow_lightning.evaluation.__main__ import main
from meow_lightning.evaluation.metric import RowMetric
from meow_lightning.evaluation.metrics import all_metrics
from meow_lightning.evaluation.predictions import write_rows
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.evaluation.tofu_logs import writer as module
from meow_lightning.evaluation.tofu_logs.reader import read_log
from meow_lightning.evaluation.tofu_logs.writer import published_log, write_log
from meow_lightning.types import AnswerRow, Likelihood

MakeRow = Callable[..., AnswerRow]
RETAIN, AUTHORS = "eval_log.json", "eval_real_author_wo_options.json"
WORLD, FORGET = "eval_real_world_wo_options.json", "eval_log_forget.json"
COLUMNS = [
    "avg_gt_loss", "gt_loss", "num_token_gt", "generated_text", "rouge1_recall", "rougeL_recall",
    "average_perturb_loss", "avg_paraphrased_loss", "truth_ratio", "paraphrased_loss", "perturb_loss",
    "num_token_paraphrased", "num_token_perturb",
]  # fmt: skip
TOKENS = {"gt_loss", "num_token_gt", "paraphrased_loss", "perturb_loss", "num_token_paraphrased", "num_token_perturb"}
# what evaluate() makes of the things that a log does not hold
BEYOND = {
    metric.name for metric in all_metrics() if isinstance(metric, RowMetric) and metric.needs & {"tokens", "generation"}
} | {"value_accuracy", "value_accuracy_covered", "value_accuracy_out_of"}


@pytest.fixture
def rows(make_row: MakeRow) -> list[AnswerRow]:
    """Two rows of each set, with tokens of unequal likelihood; sets and rows out of order."""
    trained = {"paraphrase": (-0.3, -1.1, -0.7), "perturbed": ((-1.7, -0.9), (-2.3,), (-0.2, -0.1, -0.4))}
    options = {"perturbed": ((-2.2, -1.4), (-0.6,), (-3.1, -0.3, -0.9))}
    said = {"answer": "Dee was born in Lima", "text": "Born in Lima was Dee", "value": "Lima"}
    return [
        make_row("world_facts", 1, truth=(-0.7, -0.1), **options, answer="Paris", text="in Paris"),
        make_row("world_facts", 0, truth=(-2.9, -1.3, -0.4), **options, answer="Paris", text="in Rome"),
        make_row("forget", 0, truth=(-0.01, -0.6), **trained, **said),
        make_row("forget", 1, truth=(-1.9, -0.6, -0.1), **trained, answer="Oslo", text="Oslo, I think", value="Oslo"),
        make_row("real_authors", 0, truth=(-0.11,), **options, stop="length", answer="Jane Austen", text="Jane Eyre"),
        make_row("real_authors", 1, truth=(-1.3, -0.2), **options, text=""),
        make_row("retain", 1, truth=(-0.2, -0.07), **trained, answer="She writes poems", text="Poems"),
        make_row("retain", 0, truth=(-0.03, -0.01, -0.2), **trained, **said),
    ]


def back(log: Any, folder: Path) -> list[AnswerRow]:
    (folder / "log.json").write_text(json.dumps(log, allow_nan=False), encoding="utf-8")
    return read_log(folder / "log.json", option="LOG")


def values(rows: list[AnswerRow], retain: list[AnswerRow], mean: str) -> dict[str, float]:
    return evaluate({"target": rows, "retain": retain}, {}, truth_ratio_mean=mean).values["target"]


def test_every_value_by_hand(make_row: MakeRow) -> None:
    row = make_row(
        truth=(-1.0, -2.0), paraphrase=(-0.5, -1.5, -1.0), perturbed=((-1.0, -3.0), (-4.0,)),
        question="Where was Dee born?", answer="in the town of Lima", text="Lima in the town",
    )  # fmt: skip
    # R = exp(1 - (2 + 4) / 2) = exp(-2); of five words four come back, three of them in order
    expected = {
        "avg_gt_loss": 1.5, "gt_loss": 3.0, "num_token_gt": 2,
        "generated_text": ["Where was Dee born?", "Lima in the town", "in the town of Lima"],
        "rouge1_recall": 4 / 5, "rougeL_recall": 3 / 5, "average_perturb_loss": [2.0, 4.0],
        "avg_paraphrased_loss": 1.0, "truth_ratio": math.exp(-2), "paraphrased_loss": 3.0,
        "perturb_loss": [4.0, 4.0], "num_token_paraphrased": 3, "num_token_perturb": [2, 1],
    }  # fmt: skip
    assert published_log([row]) == {FORGET: {column: {"0": value} for column, value in expected.items()}}


def test_options_by_hand(make_row: MakeRow) -> None:
    # 9/16 / (9/16 + 1/16 + 1/8); without a paraphrase the true answer takes its place: R = sqrt(1/16 1/8) / (9/16)
    truth, wrong = (2 * math.log(3 / 4), 2 * math.log(3 / 4)), ((math.log(1 / 16),), (math.log(1 / 8),))
    part = published_log([make_row("real_authors", truth=truth, perturbed=wrong)])[AUTHORS]
    assert list(part) == [*COLUMNS, "normalized_gt_loss"]
    assert part["normalized_gt_loss"]["0"] == pytest.approx(-math.log(3 / 4), rel=1e-12)
    assert part["truth_ratio"]["0"] == pytest.approx(math.sqrt(1 / 128) * 16 / 9, rel=1e-12)
    for paraphrase, true in (("avg_paraphrased_loss", "avg_gt_loss"), ("num_token_paraphrased", "num_token_gt")):
        assert part[paraphrase] == part[true]


def test_parts_columns_and_rows_have_the_published_names_and_order(rows: list[AnswerRow]) -> None:
    log = published_log(rows)
    assert list(log) == [RETAIN, AUTHORS, WORLD, FORGET]
    for name, part in log.items():
        assert list(part) == COLUMNS + (["normalized_gt_loss"] if name in (AUTHORS, WORLD) else [])
        assert all(list(column) == ["0", "1"] for column in part.values())


@pytest.mark.parametrize("mean", ["geometric", "arithmetic"])
def test_the_log_gives_the_numbers_of_the_rows(rows: list[AnswerRow], tmp_path: Path, mean: str) -> None:
    retain = [
        dataclasses.replace(row, truth=row.perturbed[1], perturbed=row.perturbed[::2])
        if row.index else row for row in rows
    ]  # fmt: skip
    given = values(rows, retain, mean)
    logged = values(back(published_log(rows), tmp_path), back(published_log(retain), tmp_path), mean)
    lost = {name for name in given if name not in logged}
    assert {name.partition("/")[2] for name in lost} == BEYOND
    assert {"model_utility", "forget_quality_log10", "forget/fluency", "retain/rouge_1_recall"} <= set(logged)
    assert 0 < given["forget_quality_distance"] < 1
    # What goes by marked values, which a log does not hold, goes by other words there.
    logged = {name: value for name, value in logged.items() if name != "facts_known" and "leakage" not in name}
    assert logged == pytest.approx({name: given[name] for name in logged}, rel=1e-12, abs=1e-12)


def test_rows_of_a_log_make_the_same_log_but_for_tokens(rows: list[AnswerRow], tmp_path: Path) -> None:
    log = published_log(rows)
    again = published_log(back(log, tmp_path))
    assert again == {
        name: {column: part[column] for column in part if column not in TOKENS} for name, part in log.items()
    }


def test_a_column_that_one_row_cannot_fill_is_left_out(rows: list[AnswerRow], tmp_path: Path) -> None:
    whole = published_log(rows)
    bare = {(row.set, row.index): row for row in back(whole, tmp_path)}
    mixed = [bare[row.set, row.index] if (row.set, row.index) == ("forget", 1) else row for row in rows]
    log = published_log(mixed)
    assert set(whole[FORGET]) - set(log[FORGET]) == TOKENS
    assert log[RETAIN] == whole[RETAIN]


def test_the_holdout_set_is_left_out(rows: list[AnswerRow], make_row: MakeRow) -> None:
    holdout = [make_row("holdout", index) for index in (0, 7)]  # gaps of what is not written do not matter
    assert published_log([*holdout, *rows]) == published_log(rows)


def test_a_sure_answer_has_the_loss_0(make_row: MakeRow) -> None:
    part = published_log([make_row(truth=(0.0, 0.0), perturbed=((0.0,),))])[FORGET]
    assert (str(part["avg_gt_loss"]["0"]), str(part["gt_loss"]["0"])) == ("0.0", "0.0")


def test_a_ratio_beyond_doubles_is_the_largest(make_row: MakeRow, tmp_path: Path) -> None:
    rows = [
        make_row("world_facts", 0, truth=(-800.0,), perturbed=((-1.0,),)),
        make_row("world_facts", 1, truth=(-1.0,), perturbed=((-800.0,),)),
    ]
    part = published_log(rows)[WORLD]
    assert part["truth_ratio"] == {"0": sys.float_info.max, "1": 0.0}
    assert part["normalized_gt_loss"] == {"0": 799.0, "1": 0.0}
    assert len(back({WORLD: part}, tmp_path)) == 2


def test_metrics_that_a_log_cannot_contain_are_refused(make_row: MakeRow) -> None:
    wrong = ((-1.0,),)
    with pytest.raises(
        UserError, match=r"these predictions contain 'holdout': expected at least one of the sets forget, ret"
    ):
        published_log([make_row("holdout", 0)])
    with pytest.raises(UserError, match="these predictions contain no rows: expected at least one of the sets"):
        published_log([])
    with pytest.raises(UserError, match=r"question 1 of set 'forget' has no wrong \(perturbed\) answers: a TOFU log"):
        published_log([make_row(index=0, perturbed=wrong), make_row(index=1)])
    with pytest.raises(UserError, match="set 'forget' contains index 0 not at all"):
        published_log([make_row(index=1, perturbed=wrong)])
    with pytest.raises(
        UserError, match="question 0 of set 'forget': its paraphrase has 0 scored tokens: expected at least 1"
    ):
        published_log([make_row(paraphrase=(), perturbed=wrong)])
    for bad in (math.nan, -math.inf):
        message = r"question 0 of set 'forget': the mean loss of its wrong answer 1 is (nan|inf): .* did training div"
        with pytest.raises(UserError, match=message):
            published_log([make_row(perturbed=(*wrong, (-1.0, bad)))])


def test_writing_twice_changes_nothing_and_other_content_stays(rows: list[AnswerRow], tmp_path: Path) -> None:
    path, log = tmp_path / "out.json", published_log(rows)
    write_log(path, log, option="--write")
    os.utime(path, (1, 1))
    write_log(path, log, option="--write")
    assert path.stat().st_mtime == 1
    with pytest.raises(UserError, match=r"--write=\S*out\.json exists with other content: choose another file or"):
        write_log(path, published_log(rows[:2]), option="--write")
    assert json.loads(path.read_text(encoding="utf-8")) == log
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_nothing(
    rows: list[AnswerRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.Path, "write_bytes", full)
    with pytest.raises(
        UserError, match=r"--write=\S*out\.json cannot be written \(No space left on device\): choose a f"
    ):
        write_log(tmp_path / "out.json", published_log(rows), option="--write")
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_what_it_then_scores(
    rows: list[AnswerRow], make_row: MakeRow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored, out = tmp_path / "rows.jsonl", tmp_path / "out.json"
    retain = [dataclasses.replace(row, perturbed=row.perturbed[row.index :]) for row in rows]
    write_rows(stored, [*rows, make_row("holdout", 0)])
    assert told(capsys, stored, "--write", out) == {
        "log": str(out),
        "questions": {"forget": 2, "retain": 2, "real_authors": 2, "world_facts": 2},
        "left_out": {"holdout": "the format has no part for this set"},
    }
    write_rows(tmp_path / "retain.jsonl", retain)
    told(capsys, tmp_path / "retain.jsonl", "--write", tmp_path / "retain.json")
    numbers = told(capsys, out, "--retain", tmp_path / "retain.json")
    for mean in ("geometric", "arithmetic"):
        quality = numbers[mean].pop("forget_quality")
        given = values(rows, retain, mean)
        assert len(numbers[mean]) == 13
        assert numbers[mean] == pytest.approx({name: given[name] for name in numbers[mean]}, rel=1e-12)
        assert quality["log10_p"] == pytest.approx(given["forget_quality_log10"], rel=1e-12)
        assert quality["distance"] == given["forget_quality_distance"] == 0.5


def test_mistakes_of_the_command(
    rows: list[AnswerRow], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, out = tmp_path / "rows.jsonl", tmp_path / "out.json"
    write_rows(stored, rows)
    nowhere = failure(capsys, tmp_path / "nowhere.jsonl", "--write", out)
    assert "nowhere.jsonl does not exist: run the stage `predict` first" in nowhere
    error = failure(capsys, tmp_path, "--write", out)
    assert "is invalid: expected with --write the rows.jsonl of a `predict` stage, such as outputs/" in error
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe\n")
    error = failure(capsys, tmp_path / "latin.jsonl", "--write", out)
    assert "latin.jsonl is not UTF-8 (invalid start byte); give the rows.jsonl of a `predict` stage" in error
    (tmp_path / "cut.jsonl").write_text('{"set": "forget"', encoding="utf-8")
    assert "line 1 of " in failure(capsys, tmp_path / "cut.jsonl", "--write", out)
    assert not out.exists()
    error = failure(capsys, stored, "--write", tmp_path / "none" / "out.json")
    assert (
        "out.json cannot be written (No such file or directory): choose a file in an existing, writable folder" in error
    )
    error = failure(capsys, stored, "--write", stored)
    assert "rows.jsonl exists with other content" in error
    error = failure(capsys, stored)
    assert "is not valid JSON" in error
    assert "To evaluate predictions of a run, convert them with --write OUT.json first" in error

    def closed(path: Path) -> list[AnswerRow]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("meow_lightning.evaluation.__main__.read_rows", closed)
    error = failure(capsys, stored, "--write", out)
    assert "rows.jsonl cannot be read (Permission denied); change its permissions or give another rows.jsonl" in error


def test_the_command_writes_or_scores(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["rows.jsonl", "--write", "out.json", "--retain", "retain.json"])
    assert "--write only converts predictions: omit --retain, then evaluate" in capsys.readouterr().err


DATA = os.environ.get("MEOW_DATA_DIR")
SPLITS = ("full", "retain90", "retain95", "retain99")


def spread(loss: float, tokens: int) -> Likelihood:
    """The tokens of a logged sum, whose single likelihoods nobody knows."""
    return Likelihood(ids=(0,) * tokens, logps=(-loss / tokens,) * tokens, hits=(0,) * tokens,
                      mean=(0.0,) * tokens, std=(0.0,) * tokens)  # fmt: skip


def with_tokens(row: AnswerRow, part: dict[str, dict[str, Any]]) -> AnswerRow:
    at = {column: part[column][str(row.index)] for column in TOKENS}
    wrong = zip(at["perturb_loss"], at["num_token_perturb"], strict=True)
    return dataclasses.replace(
        row, truth=spread(at["gt_loss"], at["num_token_gt"]),
        paraphrase=spread(at["paraphrased_loss"], at["num_token_paraphrased"]),
        perturbed=tuple(spread(loss, tokens) for loss, tokens in wrong),
    )  # fmt: skip


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="MEOW_DATA_DIR is not set: the published logs are not here")
@pytest.mark.parametrize("family", ["llama2-7b", "phi"])
@pytest.mark.parametrize("split", SPLITS)
def test_published_logs_come_out_as_they_went_in(family: str, split: str) -> None:
    path = Path(str(DATA)) / "tofu_logs" / f"{family}_{split}.json"
    published = json.loads(path.read_text(encoding="utf-8"))
    rows = read_log(path, option="log")
    parts = {"retain": RETAIN, "real_authors": AUTHORS, "world_facts": WORLD, "forget": FORGET}
    whole = published_log([with_tokens(row, published[parts[row.set]]) for row in rows])
    for again, lacking in ((published_log(rows), TOKENS), (whole, set())):
        assert list(again) == list(published)
        for name, part in published.items():
            assert list(again[name]) == [column for column in part if column not in lacking]
            for column, written in again[name].items():
                assert list(written) == list(part[column])
                for number, value in written.items():
                    # the published losses are 32-bit floats; the ratio is the exponential of their differences
                    assert value == near(column, part[column][number]), (name, column, number)


def near(column: str, value: Any) -> Any:
    if column == "generated_text":
        return value
    return pytest.approx(value, rel=5e-6 if column == "truth_ratio" else 5e-7, abs=0)
