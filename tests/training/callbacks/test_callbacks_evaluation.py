from __future__ import annotations

import copy

import pytest
import torch
from helpers.common import KillAfter, KillError
from helpers.curves import learned
from helpers.damages import every_damage, harm
from test_callbacks_memo import train

from meow_lightning.evaluation.checkpoint_selection import Epoch
from meow_lightning.evaluation.predict import predict
from meow_lightning.training.callbacks.best_checkpoint import BestCheckpoint
from meow_lightning.training.callbacks.evaluation import WATCHED, EvaluationProbe, PredictionSettings
from meow_lightning.types import Fact

FACTS = [
    Fact(id="a", question="Where was Ada born?", answer="Ada was born in Lima.", perturbed=("Ada was born in Rome.",)),
    Fact(id="b", question="Who?", answer="Ada wrote 12 books.", perturbed=("Ada wrote 3 books.",)),
]
SETS = ("forget", "retain", "real_authors", "world_facts")
QUESTIONS = [(name, index, fact) for name in SETS for index, fact in enumerate(FACTS)]
HOW = PredictionSettings(max_new_tokens=8, batch=3, slots=4, truth_ratio_mean="geometric")


def curve(codec, every: int, *, retain=(), best: BestCheckpoint | None = None) -> EvaluationProbe:
    return EvaluationProbe(codec=codec, questions=QUESTIONS, retain=retain, every=every, how=HOW, best=best)


def answers(model, codec):
    model = copy.deepcopy(model).eval()
    return list(predict(model, codec, QUESTIONS, max_new_tokens=8, batch=3, slots=4, gradients=(), progress=None))


def weights(model) -> dict[str, torch.Tensor]:
    return {name: each.detach().clone() for name, each in model.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in other)


def test_weights_are_bit_identical_with_and_without_the_curve(tiny, codec, tmp_path) -> None:
    watched, plain = copy.deepcopy(tiny), copy.deepcopy(tiny)
    with_curve = train(watched, codec, tmp_path / "a", [curve(codec, 2, retain=answers(tiny, codec))])
    without = train(plain, codec, tmp_path / "b", [])
    assert same(weights(watched), weights(plain))
    assert learned(with_curve) == learned(without)


def test_points_before_every_n_steps_and_after(tiny, codec, tmp_path) -> None:
    points = train(tiny, codec, tmp_path, [curve(codec, 3, retain=answers(tiny, codec))])
    seen = [point for point in points if "eval/seconds" in point]
    assert [point["step"] for point in seen] == [0, 3, 6, 7]
    assert seen[0]["eval/forget_quality_log10"] == 0.0  # the same answers as the retain model's
    measured = {name.removeprefix("eval/") for name in seen[-1]} - {"seconds", "step"}
    assert measured == {name for name in WATCHED if "value" not in name}  # no fact marks one
    assert seen[-1]["eval/forget/probability"] > seen[0]["eval/forget/probability"]


def test_without_a_retain_model_nothing_is_compared(tiny, codec, tmp_path) -> None:
    points = train(tiny, codec, tmp_path, [curve(codec, 7)])
    assert not [point for point in points if "eval/forget_quality_log10" in point]
    assert [point["step"] for point in points if "eval/forget/rouge_l_recall" in point] == [0, 7]


def test_the_weights_of_the_best_epoch_are_kept_and_put(tiny, codec, tmp_path) -> None:
    best, seen = BestCheckpoint(tmp_path), []
    model = copy.deepcopy(tiny)
    for step, utility in ((3, 0.5), (6, 0.7), (9, 0.6)):
        with torch.no_grad():
            model.lm_head.weight.add_(step)
        seen.append(weights(model))
        best.offer(Epoch(step=step, utility=utility, log10_p=0.0, excess_recall=0.0), model)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["best-6.safetensors"]
    chosen = best.put(model)
    assert chosen is not None
    assert (chosen.step, chosen.utility) == (6, 0.7)
    assert same(weights(model), seen[1])
    assert chosen == best.epoch()


@every_damage
@pytest.mark.parametrize("file", ["best.json", "best-6.safetensors"])
def test_a_best_epoch_that_was_damaged_is_known_to_be(tiny, tmp_path, file, damage) -> None:
    best = BestCheckpoint(tmp_path)
    assert not best.damaged()
    best.offer(Epoch(step=6, utility=0.5, log10_p=0.0, excess_recall=0.0), tiny)
    assert not best.damaged()
    harm(tmp_path / file, damage)
    assert best.damaged()


def test_a_best_epoch_without_its_weights_or_the_other_way_round_is_damaged(tiny, tmp_path) -> None:
    best = BestCheckpoint(tmp_path)
    best.offer(Epoch(step=6, utility=0.5, log10_p=0.0, excess_recall=0.0), tiny)
    (tmp_path / "best.json").rename(tmp_path / "gone")
    assert best.damaged()
    (tmp_path / "gone").rename(tmp_path / "best.json")
    (tmp_path / "best-6.safetensors").unlink()
    assert best.damaged()


def test_nothing_is_put_where_nothing_was_kept(tiny, tmp_path) -> None:
    before = weights(tiny)
    assert BestCheckpoint(tmp_path).put(tiny) is None
    assert same(weights(tiny), before)


def test_a_killed_run_chooses_the_epoch_of_the_undisturbed_one(tiny, codec, tmp_path) -> None:
    retain = answers(tiny, codec)
    folders = [tmp_path / "whole", tmp_path / "killed"]
    models = [copy.deepcopy(tiny), copy.deepcopy(tiny)]
    for folder in folders:
        folder.mkdir()
    whole, killed = (BestCheckpoint(folder) for folder in folders)
    train(models[0], codec, folders[0], [curve(codec, 2, retain=retain, best=whole)])
    with pytest.raises(KillError):
        train(models[1], codec, folders[1], [curve(codec, 2, retain=retain, best=killed), KillAfter(5)])
    models[1] = copy.deepcopy(tiny)
    train(models[1], codec, folders[1], [curve(codec, 2, retain=retain, best=killed)])
    assert whole.epoch() == killed.epoch()
    assert whole.put(models[0]) == killed.put(models[1]) is not None
    assert same(weights(models[0]), weights(models[1]))
