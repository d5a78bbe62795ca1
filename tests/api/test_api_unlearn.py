from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.common import KillAfter, KillError
from helpers.library import dataset, language_model

import meow_lightning as meow
from meow_lightning.methods.grad_ascent import GradAscent

QUICK = {"lr": 1e-3, "epochs": 2, "global_batch_size": 3}


def weights(model: meow.LanguageModel) -> list[Any]:
    return list(model.model.state_dict().values())


def same(one: meow.LanguageModel, other: meow.LanguageModel) -> bool:
    return all(left.equal(right) for left, right in zip(weights(one), weights(other), strict=True))


def test_a_name_and_a_method_give_the_same_model() -> None:
    facts = dataset()
    start = language_model(facts, precision="reproducible")
    named = meow.unlearn(start, facts, method="npo", **QUICK)
    assert same(named, meow.unlearn(start, facts, method=meow.methods.NPO(), **QUICK))
    assert not same(named, meow.unlearn(start, facts, method=meow.methods.NPO(beta=3.0), **QUICK))
    assert not same(named, start)
    assert not named.model.training


def test_the_recipe_is_that_of_the_method_unless_another_is_given() -> None:
    facts, points = dataset(), list[dict[str, float]]()
    start = language_model(facts)
    meow.unlearn(start, facts, method="npo", options=["callbacks.log_every=1"], log=points.append)
    assert len(points) == 10, "ten epochs of one step, in conf/method/npo.yaml"
    assert max(point["lr"] for point in points) == pytest.approx(1e-5, rel=0.5)


def test_a_class_without_a_file_needs_a_recipe() -> None:
    class Own(GradAscent):
        pass

    facts = dataset()
    start = language_model(facts)
    own = Own(**vars(meow.methods.GradAscent()))
    assert not same(meow.unlearn(start, facts, method=own, **QUICK), start)
    with pytest.raises(meow.UserError, match=r"optim\.lr"):
        meow.unlearn(start, facts, method=own, epochs=1, global_batch_size=4)


def test_nothing_is_trained_without_streams_or_epochs() -> None:
    facts = dataset()
    start = language_model(facts)
    for options in ({"method": "none"}, {"method": "npo", "epochs": 0}):
        done = meow.unlearn(start, facts, **options)
        assert same(done, start)
        assert done.model is not start.model


def test_adapters_are_merged_into_a_plain_model(tmp_path: Path) -> None:
    facts = dataset()
    start = language_model(facts)
    done = meow.unlearn(start, facts, method="npo_kl", **QUICK, options=["model.lora.rank=2"])
    assert type(done.model) is type(start.model)
    assert done.model.state_dict().keys() == start.model.state_dict().keys()
    assert not same(done, start)


def test_adapters_that_start_from_weights_depend_on_no_split_of_the_work(tmp_path: Path) -> None:
    facts = dataset(limit=3)
    start = language_model(facts, precision="reproducible")

    def run(*words: str, **more: Any) -> meow.LanguageModel:
        options = ["method.lora.rank=2", "callbacks.checkpoint_seconds=0", *words]
        return meow.unlearn(start, facts, method="loku", **QUICK, options=options, **more)

    expected = run("trainer.micro_batch_size=1")
    assert expected.model.state_dict().keys() == start.model.state_dict().keys()
    assert not same(expected, start)
    with pytest.raises(KillError):
        run(callbacks=[KillAfter(2)], output_dir=tmp_path)
    assert same(run("trainer.micro_batch_size=3", output_dir=tmp_path), expected)
    assert not same(run("model.lora.init=pissa"), expected)


def test_initial_values_of_adapters_need_a_retain_set(monkeypatch) -> None:
    facts = dataset()
    start, forget = language_model(facts), facts.forget
    monkeypatch.setattr(facts, "facts", lambda split: forget if split == "forget" else [])
    with pytest.raises(meow.UserError, match=r"^model\.lora\.init=fila .* no retain set; .*model\.lora\.init=pissa$"):
        meow.unlearn(start, facts, method="npo", options=["model.lora.rank=2", "model.lora.init=fila"])


@pytest.mark.parametrize("method", ["npo", "eul"])  # eul: the trained weights are in attached modules
def test_an_interrupted_training_resumes_from_its_folder(method: str, tmp_path: Path) -> None:
    facts = dataset()
    start = language_model(facts, precision="reproducible")
    options: dict[str, Any] = {**QUICK, "method": method, "options": ["callbacks.checkpoint_seconds=0"]}
    expected = meow.unlearn(start, facts, **options)
    with pytest.raises(KillError):
        meow.unlearn(start, facts, **options, callbacks=[KillAfter(3)], output_dir=tmp_path)
    resumed, points = KillAfter(0), list[dict[str, float]]()
    done = meow.unlearn(start, facts, **options, callbacks=[resumed], output_dir=tmp_path, log=points.append)
    assert same(done, expected)
    assert [point["step"] for point in points] == [4]


def test_inverted_facts_are_written_and_selected_or_given() -> None:
    facts = dataset(limit=3)
    start = language_model(facts)
    written = meow.invert(facts, candidates=4)
    assert {each.fact for each in written} == {fact.id for fact in facts.forget}
    quick = meow.memo.load_measure("clean", max_new_tokens=4, stride=20)
    options: dict[str, Any] = {**QUICK, "method": "meow", "measure": quick}
    points: list[dict[str, float]] = []
    meow.unlearn(start, facts, **options, inverted=written, log=points.append, options=["callbacks.log_every=1"])
    assert points[-1]["step"] == 2 * 3, "two epochs of three facts with k = 3 answers, three per step"


@pytest.mark.parametrize(
    ("method", "options", "named"),
    [
        ("meow_loop", [], "meow_loop"), ("npo", ["trainer=ddp", "trainer.devices=2"], "trainer.devices=2"),
        ("npo", ["optim.checkpoint=best"], "optim.checkpoint=best"), ("nop", [], "npo"),
        ("npo", ["optim.weight_dekay=0"], "weight_decay"),
    ],
)  # fmt: skip
def test_what_is_wrong_or_takes_the_pipeline_is_named(method: str, options: list[str], named: str) -> None:
    facts = dataset()
    with pytest.raises(meow.UserError, match=named):
        meow.unlearn(language_model(facts), facts, method=method, options=options)


def test_writers_that_run_a_model_of_their_own_take_the_pipeline() -> None:
    with pytest.raises(meow.UserError, match=r"meow\.run"):
        meow.invert(dataset(), writer="local", model="some-model")
    with pytest.raises(meow.UserError, match="rules"):
        meow.invert(dataset(), writer="rule")


def test_fine_tuning_teaches_the_splits() -> None:
    facts, points = dataset(limit=3), list[dict[str, float]]()
    start = language_model(facts)
    taught = meow.finetune(
        start, facts, splits=["forget"], lr=1e-2, epochs=30, options=["model.finetune.steps=0"], log=points.append
    )
    assert points[-1]["loss"] < points[0]["loss"] / 2
    assert not same(taught, start)
    with pytest.raises(meow.UserError, match="no facts in "):
        meow.finetune(start, facts, splits=[])
    with pytest.raises(meow.UserError, match=r"^model\.lora\.init=fila .* Did you mean default\?$"):
        meow.finetune(start, facts, options=["model.lora.rank=2", "model.lora.init=fila"])


def test_refusals_of_a_file_are_trained(tmp_path: Path) -> None:
    facts = dataset()
    start = language_model(facts)
    (tmp_path / "refusals.txt").write_text("No idea.\n")
    own = [f"method.refusals={tmp_path}/refusals.txt"]
    given = meow.unlearn(start, facts, method="idk", options=own, **QUICK)
    assert not same(given, meow.unlearn(start, facts, method="idk", **QUICK))
    with pytest.raises(meow.UserError, match=r"^optim\.aggregate=top is invalid: expected mean with method=Idk, "):
        meow.unlearn(start, facts, method="idk", options=["optim.aggregate=top"], **QUICK)
