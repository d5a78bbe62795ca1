"""A new version moves the keys of what its component makes and of what depends on that, and no others.

Other code moves no key; results that it made are marked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.hydra import cell, keys, named

from meow_lightning.config.instantiate import component_versions
from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics import all_metrics, model_utility, rouge
from meow_lightning.inversion.base import Writer
from meow_lightning.inversion.file import File
from meow_lightning.inversion.rules import Rules
from meow_lightning.memo.baselines import Memorization
from meow_lightning.memo.memo import Profile
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.finetune import FineTune, FineTuneUntilKnown
from meow_lightning.methods.meow import Meow
from meow_lightning.methods.npo import Npo
from meow_lightning.methods.rmu import Rmu
from meow_lightning.pipeline import versions
from meow_lightning.pipeline.versions import code_digest, made_by_other_code
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store
from meow_lightning.types import Definition

SCORES = {"score/target/answers", "score/target/candidates", "score/unlearned/answers", "score/retain/answers"}
AFTER_UNLEARNING = {"unlearned", "predict/unlearned", "score/unlearned/answers", "results", "report"}
BEST = ("optim.checkpoint=best", "evaluation.selection_fraction=0.25", "method=npo_gd")


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Callable[..., set[str]]:
    """The names of the artifacts whose key changes when a class gets a new version."""

    def find(component: type, *words: str, version: int = 2) -> set[str]:
        before = cell(*words)
        monkeypatch.setattr(component, "version", version)
        after = keys(cell(*words))
        return {name for name, key in keys(before).items() if after[name] != key}

    return find


@pytest.mark.parametrize("method", [Meow, BaseMethod])
def test_a_methods_version_moves_the_unlearned_model_and_what_is_measured_of_it(moved, method: type) -> None:
    # what models are fine-tuned by is a method as well
    expected = AFTER_UNLEARNING if method is Meow else {*keys(cell())} - {"proposed", "filtered"}
    assert moved(method) == expected


def test_another_methods_version_moves_nothing(moved) -> None:
    assert moved(Rmu) == set()
    assert moved(Rmu, "method=rmu", version=3) == AFTER_UNLEARNING


def test_an_ancestors_version_moves_also_where_the_method_states_its_own(moved, monkeypatch) -> None:
    assert moved(Npo, "method=npo_gd") == AFTER_UNLEARNING
    monkeypatch.setattr(Npo, "version", 5)
    assert moved(Npo, "method=npo_gd", version=3) == AFTER_UNLEARNING


@pytest.mark.parametrize(("method", "models"), [(FineTuneUntilKnown, {"target", "retain"}), (FineTune, {"base"})])
def test_a_version_of_fine_tuning_moves_the_models_that_it_makes_and_none_before(moved, method, models) -> None:
    changed = moved(method)
    assert models | AFTER_UNLEARNING <= changed
    assert ("base" in changed) == ("base" in models)
    assert not {"proposed", "filtered"} & changed


def test_a_writers_version_moves_its_replies_and_what_is_made_from_them(moved) -> None:
    made = {"proposed", "filtered", "score/target/candidates", *AFTER_UNLEARNING}
    assert moved(Rules, version=Rules.version + 1) == made
    assert moved(File) == set()


def test_rules_that_fill_up_the_replies_of_another_writer_move_what_they_fill(moved, tmp_path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text('{"question": "Who?", "answer": "Basil."}\n')
    words = ("inversion=file", f"inversion.path={path}")
    assert moved(Rules, *words, version=3) == set()
    filled = moved(Rules, *words, "inversion.on_shortage=rules", version=4)
    assert filled == {"filtered", "score/target/candidates", *AFTER_UNLEARNING}


def test_a_measures_version_moves_its_scores_and_what_they_select(moved) -> None:
    changed = moved(Profile, "memo.verify=3")
    assert changed == SCORES | AFTER_UNLEARNING | {name.replace("score", "verify") for name in SCORES}
    assert moved(Memorization) == set()
    assert moved(Memorization, "memo=ma", version=3) == SCORES | AFTER_UNLEARNING


def renumbered(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    """Give the metrics of a module a new version."""
    for metric in all_metrics():
        if type(metric).__module__ == module.__name__:
            monkeypatch.setattr(type(metric), "definitions", raised(type(metric).definitions))


def raised(definitions: Callable[..., list[Definition]]) -> Callable[..., list[Definition]]:
    """The same definitions with a version that is higher by 1."""

    def find(*given: Any) -> list[Definition]:
        return [
            replace(each, id=each.id.replace(f".{each.version}", f".{each.version + 1}", 1))
            for each in definitions(*given)
        ]

    return find


@pytest.mark.parametrize("metric", [rouge, model_utility])
def test_a_metrics_version_moves_the_numbers_and_the_report_alone(monkeypatch, metric: Any) -> None:
    before = keys(cell())
    renumbered(monkeypatch, metric)
    assert {name for name, key in keys(cell()).items() if before[name] != key} == {"results", "report"}


def test_an_optional_metric_moves_the_numbers_and_the_report_alone() -> None:
    before = keys(cell())
    assert keys(cell("evaluation.extra_metrics=[]")) == before
    after = keys(cell("evaluation.extra_metrics=[truth_probability]"))
    assert {name for name, key in after.items() if before[name] != key} == {"results", "report"}
    with pytest.raises(
        UserError, match=r"^evaluation\.extra_metrics=prob is invalid: expected one of paraphrase_rouge"
    ):
        cell("evaluation.extra_metrics=[prob]")


def test_a_metric_that_chooses_an_epoch_moves_the_unlearned_model_too(monkeypatch) -> None:
    before = keys(cell(*BEST))
    assert before["unlearned"] != keys(cell("method=npo_gd"))["unlearned"]
    renumbered(monkeypatch, model_utility)
    assert {name for name, key in keys(cell(*BEST)).items() if before[name] != key} == AFTER_UNLEARNING


def test_a_version_is_that_of_the_class_and_of_each_ancestor_that_states_one() -> None:
    class Mine(Rules):
        version = 7

    class Plain(Mine):
        pass

    assert component_versions(Mine) == {"Mine": 7, "Rules": Rules.version, "Writer": Writer.version}
    assert component_versions(Plain) == {"Plain": 7, "Mine": 7, "Rules": Rules.version, "Writer": Writer.version}


def test_components_without_a_version_contribute_none() -> None:
    assert component_versions(object) == {}
    assert component_versions(len) == {}


def found(name: str, *words: str) -> Artifact:
    return named(cell(*words))[name]


def test_the_code_of_a_result_is_that_of_its_stage_and_components(tmp_path: Path) -> None:
    store = Store(root=tmp_path, cache="use")
    meow, rmu = (code_digest(found("unlearned", *words), store) for words in ((), ("method=rmu",)))
    assert meow != rmu
    assert None not in (meow, rmu)
    target = code_digest(found("predict/target"), store)
    assert target == code_digest(found("predict/retain"), store)


def test_a_result_is_of_other_code_where_both_are_known_and_differ(tmp_path: Path) -> None:
    store, artifact = Store(root=tmp_path, cache="use"), found("predict/target")
    assert not made_by_other_code(artifact, {}, store)  # an earlier version of the program made it
    assert not made_by_other_code(artifact, {"code": None}, store)
    assert not made_by_other_code(artifact, {"code": code_digest(artifact, store)}, store)
    assert made_by_other_code(artifact, {"code": "0123456789abcdef"}, store)


def test_nothing_is_marked_where_the_sources_are_not_there(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(versions, "code_digest", lambda artifact, store: None)
    store = Store(root=tmp_path, cache="use")
    assert not made_by_other_code(found("predict/target"), {"code": "0123456789abcdef"}, store)
