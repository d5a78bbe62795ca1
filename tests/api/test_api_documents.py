"""Passages of documents in the place of facts: scored, forgotten and evaluated by the functions of the library."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.library import dataset, language_model

import meow_lightning as meow
from meow_lightning.integrations import UnlearningTrainer

TEXT = " ".join(f"Ada wrote book number {number} in Lima." for number in range(20))


@pytest.fixture
def passages(tmp_path: Path) -> meow.FactDataset:
    for name, text in (("forget", TEXT), ("keep", TEXT.replace("Ada", "Otto"))):
        (tmp_path / f"{name}.txt").write_text(text)
    forget, keep = tmp_path / "forget.txt", tmp_path / "keep.txt"
    return meow.load_dataset(forget, retain=keep, real_world=False, target_words=12, prefix_words=6, limit=3)


@pytest.fixture
def model() -> meow.LanguageModel:
    return language_model(dataset())


def test_a_text_file_is_forgotten_and_measured(passages: meow.FactDataset, model: meow.LanguageModel) -> None:
    measure = meow.memo.load_measure("clean", max_new_tokens=4, stride=20)
    before = meow.memo.score(model, passages.forget, measure=measure)
    assert [each.fact for each in before] == [each.id for each in passages.forget]
    done = meow.unlearn(model, passages, method="npo_gd", lr=1e-3, epochs=2, global_batch_size=2)
    report = meow.evaluate(done, passages, target=model, measure=measure, options=["evaluation.bootstrap_samples=5"])
    assert report["forget/probability"] != report.value("forget/probability", role="target")
    assert report.intervals()["unlearned"]["forget/probability"]
    assert {row.set for row in report.predictions["unlearned"]} == {"forget", "retain"}
    assert all(row.answer in TEXT for row in report.predictions["target"] if row.set == "forget")


@pytest.mark.parametrize("method", ["meow", "idk"])
def test_methods_on_answers_to_questions_are_refused(
    passages: meow.FactDataset, model: meow.LanguageModel, tmp_path: Path, method: str
) -> None:
    from transformers import TrainingArguments

    with pytest.raises(meow.UserError, match=f"method={method} .*passages"):
        meow.unlearn(model, passages, method=method)
    with pytest.raises(meow.UserError, match=f"method={method} .*passages"):
        UnlearningTrainer(model, passages, method, TrainingArguments(str(tmp_path), report_to=[]))


def test_published_protocols_are_refused(passages: meow.FactDataset, model: meow.LanguageModel) -> None:
    with pytest.raises(meow.UserError, match=r"evaluation\.protocol=tofu"):
        meow.evaluate(model, passages, options=["evaluation.protocol=tofu"])


def test_a_stream_without_examples_is_named(tmp_path: Path, model: meow.LanguageModel) -> None:
    (tmp_path / "forget.txt").write_text(TEXT)
    alone = meow.load_dataset(tmp_path / "forget.txt", real_world=False)
    with pytest.raises(meow.UserError, match=r"method=npo_gd .*retain"):
        meow.unlearn(model, alone, method="npo_gd")
    with pytest.raises(meow.UserError, match=r"method=npo_gd .*retain"):
        meow.unlearn(model, alone, method=meow.methods.NpoGd())
