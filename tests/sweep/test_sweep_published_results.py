"""What others have published: every file names what exists here, and what cannot be read is said in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from meow_lightning.config.hydra_errors import choices
from meow_lightning.errors import UserError
from meow_lightning.evaluation.sets import BENCHMARK
from meow_lightning.evaluation.suite.inputs import metric_settings
from meow_lightning.evaluation.suite.suite import definitions, evaluate
from meow_lightning.evaluation.tofu_logs.reader import read_log
from meow_lightning.report.paper_comparison import Published
from meow_lightning.sweep.published_results import FOLDER, expected

DATA = os.environ.get("MEOW_DATA_DIR")
SPLITS = {"tofu": {"forget01", "forget05", "forget10"}}
GOOD = {"source": "s", "note": "n", "dataset": "tofu", "truth_ratio_mean": "geometric", "figures": {}}


def entries(published: Published) -> list[tuple[str, str, str, str, float]]:
    return [
        (model, split, method, name, value)
        for model, splits in published.figures.items()
        for split, methods in splits.items()
        for method, numbers in methods.items()
        for name, value in numbers.items()
    ]


SOURCES = {path.stem: found for path, found in zip(sorted(FOLDER.glob("*.yaml")), expected(FOLDER), strict=True)}


@pytest.mark.parametrize("name", SOURCES)
def test_a_file_names_what_exists_here(name: str) -> None:
    published = SOURCES[name]
    mean = published.truth_ratio_mean
    assert mean in ("geometric", "arithmetic")
    settings = metric_settings(truth_ratio_mean=mean, protocol="none")
    known = {each.name for each in definitions(BENCHMARK, settings, protocol="none")}
    for model, split, method, number, value in entries(published):
        assert model in choices("model")
        assert split in SPLITS[published.dataset]
        assert method in choices("method")
        assert number in known
        assert 0 <= value <= 1, f"{model} {split} {method} {number}"


def test_the_tables_that_could_be_verified_are_there() -> None:
    assert len(entries(SOURCES["open_unlearning"])) == 2 * 3 * 8 * 3
    assert len(entries(SOURCES["tofu_logs"])) == 2 * (3 * 4 + 2 * 1 + 1 * 5)
    assert entries(SOURCES["meow"]) == []
    figures = SOURCES["open_unlearning"].figures["llama2_7b_chat"]["forget10"]
    assert figures["npo_gd"] == {"forget_quality": 0.42, "model_utility": 0.54, "forget/truth_ratio": 0.73}
    assert figures["grad_ascent"]["forget_quality"] == 1.06e-239


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="MEOW_DATA_DIR is not set: the published logs are not here")
@pytest.mark.parametrize(("model", "family"), [("llama2_7b_chat", "llama2-7b"), ("phi15", "phi")])
def test_the_figures_of_tofus_logs_are_what_its_logs_hold(model: str, family: str) -> None:
    def rows(kind: str) -> list:
        return read_log(Path(str(DATA)) / "tofu_logs" / f"{family}_{kind}.json", option="log")

    figures = SOURCES["tofu_logs"].figures[model]
    logs = {"forget01": "retain99", "forget05": "retain95", "forget10": "retain90"}
    for split, kind in logs.items():
        roles = {"target": rows("full")} if split == "forget10" else {}
        values = evaluate({**roles, "retain": rows(kind)}, {}, truth_ratio_mean="geometric", words="published").values
        assert figures[split]["retrain"] == {
            name: pytest.approx(values["retain"][name], abs=5e-7) for name in figures[split]["retrain"]
        }
        if split == "forget10":
            for name, value in figures[split]["none"].items():
                assert value == pytest.approx(values["target"][name], rel=5e-7, abs=5e-7 * (value > 1e-3))
            utility = values["target"]["model_utility"]
    assert [figures[split]["none"]["model_utility"] for split in logs] == pytest.approx([utility] * 3, abs=5e-7)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1", "is not valid YAML: "),
        ("- 1", "must be a mapping with the keys source, note, dataset, truth_ratio_mean, figures"),
        (yaml.safe_dump(GOOD | {"sorce": "s"}), ": sorce is not one of source, note, "),
        (yaml.safe_dump({**GOOD, "note": None}), ": note must be a string"),
        (yaml.safe_dump({**GOOD, "figures": None}), ": figures must be a mapping by model"),
        (
            yaml.safe_dump({**GOOD, "figures": {"tiny": {"forget01": 1}}}),
            ": figures.tiny.forget01=1 is invalid: expected a mapping by method",
        ),
        (
            yaml.safe_dump(GOOD).replace("{}", "{tiny: {forget01: {npo: {model_utility: 9e-96}}}}"),
            ": figures.tiny.forget01.npo.model_utility=9e-96 is invalid: expected a number, such as 9.0e-96",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "mine.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as error:
        expected(tmp_path)
    assert str(error.value).startswith(str(tmp_path / "mine.yaml"))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
