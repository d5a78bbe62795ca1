from __future__ import annotations

import copy
from typing import Any

import pytorch_lightning as pl
import torch
from helpers.common import clean_profile, cpu
from helpers.curves import learned

from meow_lightning.data.batch_plan import BatchPlan, StreamData
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.memo.measure import Text, score_texts
from meow_lightning.methods.finetune import FineTune
from meow_lightning.models.tiny import tokenizer_from
from meow_lightning.training.callbacks.memo import MemoProbe
from meow_lightning.training.callbacks.progress import ProgressReporter
from meow_lightning.training.fit import fit
from meow_lightning.training.module import Optim, TrainingModule

PROFILE = clean_profile(24)
ANSWER = "Ada was born in Lima."
TEXTS = [
    Text("ada", "answer", 0, "Where was Ada born?", ANSWER),
    Text("ada", "candidate", 0, "Where was Ada born?", "Ada was born in Oslo."),
    Text("ada", "candidate", 1, "Where was Ada born?", "Ada was born in Rome."),
]


class Modes(pl.Callback):
    def __init__(self) -> None:
        self.training: list[bool] = []

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *unused: Any) -> None:
        self.training.append(all(part.training for part in module.model.modules()))


def train(model: Any, codec: Any, folder: Any, callbacks: list[pl.Callback], *, steps: int = 7) -> list[dict]:
    rows = [codec.encode("Where was Ada born?", ANSWER), codec.encode("Who?", "Ada wrote 12 books.")]
    plan = BatchPlan(
        streams={"learn": StreamData(rows)}, global_batch_size=2, batch_tokens=None, epochs=steps, seed=0, paired=()
    )
    adamw = Optim(
        optimizer="adamw", lr=0.03, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, max_grad_norm=0, warmup=0,
        schedule="constant", grid=0.0,
    )  # fmt: skip
    points: list[dict] = []
    fit(
        TrainingModule(model=model, method=FineTune(), plan=plan, optim=adamw, log_every=1, reference=None),
        folder=folder,
        pad_id=codec.pad_id,
        machine=cpu("32-true", 1, 1e9),
        callbacks=callbacks,
        write=points.append,
    )
    return points


def curve(codec: Any, every: int, texts: list[Text] = TEXTS) -> MemoProbe:
    return MemoProbe(codec=codec, texts=texts, by=PROFILE, every=every, slots=8)


def test_weights_are_bit_identical_with_and_without_the_curve(tiny, codec, tmp_path) -> None:
    for layer in tiny.model.layers:
        layer.self_attn.attention_dropout = 0.2
    watched, plain, modes = copy.deepcopy(tiny), copy.deepcopy(tiny), Modes()
    with_curve = train(watched, codec, tmp_path / "a", [curve(codec, 2), modes])
    without = train(plain, codec, tmp_path / "b", [])
    pairs = zip(watched.parameters(), plain.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert learned(with_curve) == learned(without)
    assert modes.training == [True] * 7


def test_points_before_every_n_steps_and_after(tiny, codec, tmp_path) -> None:
    points = [p for p in train(tiny, codec, tmp_path, [curve(codec, 3)]) if "memo/clean/true_answers" in p]
    assert [point["step"] for point in points] == [0, 3, 6, 7]
    assert all(point["memo/seconds"] > 0 for point in points)


def test_the_last_step_has_one_point_when_it_is_also_one_of_every_n(tiny, codec, tmp_path) -> None:
    points = [p for p in train(tiny, codec, tmp_path, [curve(codec, 3)], steps=6) if "memo/clean/true_answers" in p]
    assert [point["step"] for point in points] == [0, 3, 6]


def test_values_are_the_means_of_the_kinds(tiny, tmp_path) -> None:
    # One token a byte: a cut within a word leaves the tokens before it as they were trained.
    codec = PromptEncoder(
        tokenizer=tokenizer_from([], vocab_size=258), template="{question}", answer_prefix=" ", system=None, date=None,
        context=128, end_ids=frozenset(),
    )  # fmt: skip
    points = [p for p in train(tiny, codec, tmp_path, [curve(codec, 100)], steps=100) if "memo/clean/true_answers" in p]
    scored = list(score_texts(tiny.eval(), codec, TEXTS, by=PROFILE, slots=2, progress=None, done=(), alone=None))
    score = {(text.kind, text.position): text.score for text in scored}
    assert points[-1]["memo/clean/true_answers"] == score["answer", 0]
    assert points[-1]["memo/clean/candidates"] == (score["candidate", 0] + score["candidate", 1]) / 2
    assert points[-1]["memo/clean/true_answers"] > points[0]["memo/clean/true_answers"]  # it learned this very answer


def test_a_kind_without_texts_has_no_value(tiny, codec, tmp_path) -> None:
    points = train(tiny, codec, tmp_path, [curve(codec, 1, TEXTS[:1])], steps=1)
    assert all("memo/clean/candidates" not in point for point in points)


def test_progress_is_reported_every_step(tiny, codec, tmp_path) -> None:
    told: list[tuple] = []
    train(tiny, codec, tmp_path, [ProgressReporter(progress=lambda *said: told.append(said))], steps=3)
    assert told == [(1, 3, "steps"), (2, 3, "steps"), (3, 3, "steps")]
