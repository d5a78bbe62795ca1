"""The ways in which the benchmark of trainings makes a step, each in a process of its own."""

from __future__ import annotations

import argparse
from bisect import bisect_left
from collections import Counter
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch
from common import clock, most_memory
from published_training import published, wide

from meow_lightning.data.batch_plan import BatchPlan, Counts, StreamData, counts, pack_by_tokens
from meow_lightning.data.collate import collate
from meow_lightning.methods.npo import Npo
from meow_lightning.methods.preference import start_kl
from meow_lightning.models.logprobs import answer_logps
from meow_lightning.models.tiny import llama
from meow_lightning.training.module import total_loss
from meow_lightning.types import Batch, Encoded, LossParts

BETA, RETAIN_WEIGHT, CLIP = 0.1, 1.0, 1.0  # conf/method/npo_kl.yaml, conf/optim
LOSSES: dict[str, Any] = {"NPO": Npo(beta=BETA), "NPO+KL": Npo(retain="kl", beta=BETA, retain_weight=RETAIN_WEIGHT)}
WAYS = ("published", "two models", "kept", "buckets")


class Task(NamedTuple):
    """What all ways work on."""

    streams: dict[str, list[Encoded]]
    sizes: dict[str, int]  # of the model
    pad_id: int
    options: argparse.Namespace


class Step(NamedTuple):
    """One step: what it cost and what it gave."""

    seconds: float
    values: dict[str, float]  # the loss, its parts, the gradient's norm
    tokens: int
    frozen: int  # tokens that the frozen model was asked about
    rows: int  # of the forget stream


def fresh(task: Task) -> Any:
    """The start model, the same one each time."""
    torch.manual_seed(0)
    return llama(**task.sizes).train()


def plan_of(task: Task, method: Any, streams: dict[str, list[Encoded]], *, buckets: bool) -> BatchPlan:
    """The global batches of all epochs; as buckets in as many steps, as near to it as their bound allows."""
    found = {name: StreamData(rows=streams[name]) for name in method.streams}
    tokens, size = None, task.options.global_batch_size
    if buckets:
        lengths = sorted(len(row.ids) for row in streams[method.streams[0]])
        steps, bounds = -(-len(lengths) // size), range(lengths[-1], sum(lengths) + 1)
        tokens = bounds[bisect_left(bounds, True, key=lambda most: len(pack_by_tokens(lengths, tokens=most)) <= steps)]
    return BatchPlan(
        streams=found, global_batch_size=size, batch_tokens=tokens, epochs=task.options.epochs, seed=0, paired=()
    )


def two_models(model: Any, frozen: Any, batch: Batch) -> LossParts:
    """The loss with the frozen model asked about every row of every step."""
    parts = Npo(beta=BETA).loss(model, batch, frozen)
    if "retain" in batch:
        parts["retain"] = start_kl(model, frozen, batch["retain"], stream="retain", weight=RETAIN_WEIGHT)
    return parts


class Learner:
    """One way, in a process of its own."""

    def __init__(self, task: Task, loss: str, way: str) -> None:
        self.task, self.method, self.way, self.read = task, LOSSES[loss], way, Counter[str]()
        self.before = most_memory("cpu")
        self.model: Any = None
        self.optimizer: Any = None
        self.frozen = None
        if way not in ("kept", "buckets") or "retain" in self.method.streams:
            self.frozen = fresh(task).eval().requires_grad_(False)
            self.frozen.register_forward_pre_hook(partial(self._count, "frozen"), with_kwargs=True)

    def begin(self) -> float:
        """Start anew; the CPU-seconds that the kept log-probabilities took."""
        self.model = self.optimizer = None  # the old ones go before new ones come
        self.model, streams, start = fresh(self.task), self.task.streams, clock("cpu")
        if self.way in ("kept", "buckets"):
            streams = {**streams, "forget": self._with_logps(streams["forget"])}
        once = clock("cpu") - start
        self.plan = plan_of(self.task, self.method, streams, buckets=self.way == "buckets")
        self.model.register_forward_pre_hook(partial(self._count, "trained"), with_kwargs=True)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.task.options.lr, weight_decay=0.0)
        return once

    def step(self, number: int) -> Step:
        """Make one step."""
        self.read.clear()
        start = clock("cpu")
        rows = self.plan.step(number)
        batch = {name: collate(each, pad_id=self.task.pad_id) for name, each in rows.items()}
        self.optimizer.zero_grad()
        values = self._backward(self._parts(batch), counts(rows))
        self.optimizer.step()
        taken = clock("cpu") - start
        read = {name: value.item() for name, value in values.items()}
        return Step(taken, read, self.read["trained"], self.read["frozen"], len(rows[self.method.streams[0]]))

    def _backward(self, parts: LossParts, per: Counts) -> dict[str, torch.Tensor]:
        """The loss, its parts and its gradient's norm, after the backward pass."""
        loss = total_loss(parts, per)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        values = {name: part.weight * part.sum.detach() / per[part.stream][part.per] for name, part in parts.items()}
        return {**values, "loss": loss.detach(), "gradient": norm}

    def both(self, number: int) -> tuple[Step, Step]:
        """The values of a step's batch this way and the published one, after one step: margins are no longer 0."""
        self.begin()
        self.step(number)
        frozen, found = fresh(self.task).eval().requires_grad_(False), []
        rows = self.plan.step(number)
        batch = {name: collate(each, pad_id=self.task.pad_id) for name, each in rows.items()}
        for parts in (self._parts, partial(self._published, frozen)):
            self.optimizer.zero_grad()
            values = self._backward(parts(batch), counts(rows))
            found.append(Step(0.0, {name: value.item() for name, value in values.items()}, 0, 0, len(rows["forget"])))
        return found[0], found[1]

    def memory(self) -> tuple[float, float]:
        """(the most that this process held, what it held before it made a model), in MiB."""
        return most_memory("cpu"), self.before

    def _parts(self, batch: Batch) -> LossParts:
        if self.way == "published":
            return self._published(self.frozen, batch)
        if self.way == "two models":
            return two_models(self.model, self.frozen, batch)
        return self.method.loss(self.model, batch, self.frozen if self.method.reference == "both" else None)

    def _published(self, frozen: Any, batch: Batch) -> LossParts:
        padded = {name: wide(rows, pad_id=self.task.pad_id) for name, rows in batch.items()}
        return published(self.model, frozen, padded, beta=BETA, retain_weight=RETAIN_WEIGHT)

    def _with_logps(self, rows: list[Encoded]) -> list[Encoded]:
        order = sorted(range(len(rows)), key=lambda place: -len(rows[place].ids))
        found = list(rows)
        size = self.task.options.eval_batch_size
        for start in range(0, len(order), size):
            places = order[start : start + size]
            with torch.no_grad():
                logps = answer_logps(self.model, collate([rows[place] for place in places], pad_id=self.task.pad_id))
            for place, logp in zip(places, logps.tolist(), strict=True):
                found[place] = rows[place]._replace(reference=logp)
        return found

    def _count(self, which: str, _: Any, __: Any, given: dict[str, Any]) -> None:
        self.read[which] += given["input_ids"].numel()


def serve(pipe: Connection, task: Task, loss: str, way: str) -> None:
    """Do what is asked of a learner until nothing more is."""
    learner = Learner(task, loss, way)
    for name, *arguments in iter(pipe.recv, None):
        pipe.send(getattr(learner, name)(*arguments))
