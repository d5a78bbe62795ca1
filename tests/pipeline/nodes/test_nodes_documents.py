"""Runs whose forget set is passages of documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.hydra import options

from meow_lightning.errors import UserError
from meow_lightning.pipeline import build
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.pipeline.nodes.context import dataset_of
from meow_lightning.planning.model_inputs import training_rows

TEXT = " ".join(f"Ada wrote book number {number} in Lima." for number in range(20))
SMALL = ("model.pretrain.rows=30", "model.finetune.replay=2", "dataset.target_words=12", "dataset.prefix_words=6")


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    for name, text in (("forget", TEXT), ("retain", TEXT.replace("Ada", "Otto"))):
        (tmp_path / f"{name}.txt").write_text(text)
    files = (f"dataset.{name}={tmp_path}/{name}.txt" for name in ("forget", "retain"))
    return ("dataset=documents", *files, *SMALL)


def graph(*words: str) -> RunGraph:
    return build.graph(options(*words, small=()))


@pytest.mark.parametrize(
    "method", ["grad_ascent", "npo", "npo_gd", "simnpo", "grad_diff", "rmu", "undial", "ceu", "opt_out"]
)
def test_methods_on_the_forget_set_itself_take_passages(words, method: str) -> None:
    made = graph(*words, f"method={method}")
    assert made.rounds == ()
    assert set(made.evaluation.predictions["unlearned"].settings["sets"]) == {
        "forget",
        "retain",
        "real_authors",
        "world_facts",
    }


def test_a_method_takes_passages_once_it_needs_no_wrong_answers(words) -> None:
    assert graph(*words, "method=uld", "method.inverted_share=0").models.unlearned.needs.keys() == {"start"}


@pytest.mark.parametrize("method", ["meow", "meow_loop", "altpo", "idk", "dpo", "flat", "snap", "relearn", "uld"])
def test_methods_on_answers_to_questions_are_refused(words, method: str) -> None:
    with pytest.raises(UserError, match=rf"method={method} .*dataset=documents.*such as method=npo"):
        graph(*words, f"method={method}")


@pytest.mark.parametrize("protocol", ["tofu", "open_unlearning"])
def test_published_protocols_are_refused(words, protocol: str) -> None:
    with pytest.raises(UserError, match=rf"evaluation.protocol={protocol} is invalid.*Did you mean none\?"):
        graph(*words, "method=npo", f"evaluation.protocol={protocol}")


def test_the_cut_and_the_end_are_part_of_the_keys_of_training(words, tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text(json.dumps({"prompt": "Ada wrote", "completion": " a book in Lima."}))
    (tmp_path / "two.jsonl").write_text(json.dumps({"prompt": "Ada wrote a", "completion": " book in Lima."}))
    (tmp_path / "qa.jsonl").write_text(json.dumps({"question": "Ada wrote", "answer": " a book in Lima."}))
    start = ("method=npo", "model.pretrain.rows=30", "model.finetune.replay=2")
    sources = (("documents", "one"), ("documents", "two"), ("jsonl", "qa"))
    made = [graph(*start, f"dataset={source}", f"dataset.forget={tmp_path}/{name}.jsonl") for source, name in sources]
    keys = {each.models.unlearned.settings["rows"]["forget"] for each in made}
    assert len(keys) == 3


def test_the_plan_checks_raw_rows(words) -> None:
    made, (dataset, _) = graph(*words, "method=npo"), dataset_of(options(*words, "method=npo", small=()))
    (rows,) = training_rows(
        [made.models.unlearned, made.evaluation.predictions["target"]], dataset, streams=made.streams
    ).values()
    assert {example.segments for example in dataset.facts("forget")} <= {row for row in rows if row.raw}
    assert {row.raw for row in rows} == {True, False}  # the facts of the real world are questions
