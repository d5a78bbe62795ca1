"""Trains a small model and runs stages, in one process or in N, and collects the results.

``python -m torch.distributed.run --standalone --nproc-per-node=N -m helpers.distributed FOLDER`` executes
``tasks.pt`` in the folder; :func:`job` writes it and starts the processes, so that many tasks share one start.
"""

from __future__ import annotations

import copy
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytorch_lightning as pl
import torch

from helpers.common import KillAfter, KillError
from meow_lightning.data.batch_plan import BatchPlan, StreamData
from meow_lightning.data.collate import collate
from meow_lightning.distributed import DRIVER, destroy_process_group, rank, world_size
from meow_lightning.methods.dpo import Dpo
from meow_lightning.methods.grad_ascent import GradAscent
from meow_lightning.methods.npo import Npo
from meow_lightning.methods.pdu import Pdu
from meow_lightning.methods.rmu import Rmu
from meow_lightning.methods.snap import Snap
from meow_lightning.models.logprobs import answer_logps
from meow_lightning.models.lora import enable_checkpointing, with_lora
from meow_lightning.models.tiny import llama
from meow_lightning.pipeline.worker import run_stage
from meow_lightning.stages.base import StageContext
from meow_lightning.training.adapter_init import fisher_row_weights, initialise_adapters
from meow_lightning.training.aggregate import Aggregate, Kind
from meow_lightning.training.fit import TrainerSettings, fit
from meow_lightning.training.module import Optim, TrainingModule
from meow_lightning.training.preparation import prepare_method
from meow_lightning.training.sam import Sam
from meow_lightning.types import Encoded

ROOT = Path(__file__).resolve().parents[2]
ADAMW = Optim(
    lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, max_grad_norm=0.5, warmup=3, schedule="linear",
    optimizer="adamw", grid=0.0,
)  # fmt: skip


class Pulled(GradAscent):
    """Ascent and descent in turn by epoch, with a spring to the start in every step."""

    def phase(self, epoch: int) -> tuple[str, ...]:
        return ("forget", "retain") if epoch % 2 else ("forget",)

    def loss(self, model: torch.nn.Module, batch: Any, reference: torch.nn.Module | None) -> Any:
        return super().loss(model, batch, reference) if "retain" in batch else GradAscent().loss(model, batch, None)

    def regularizer(self, model: torch.nn.Module, start: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return 0.01 * sum(((weight - start[name]) ** 2).sum() for name, weight in model.named_parameters())


METHODS: dict[str, Callable[[], Any]] = {
    "one": GradAscent,
    "retain": lambda: GradAscent(retain="ce", retain_weight=0.7),
    "paired": lambda: Dpo(beta=0.5),
    "dual": lambda: Pdu(mu0=1.0, eta=0.1, eps=3.0),
    "frozen": lambda: Npo(retain="kl", beta=0.5, retain_weight=0.7),
    "pulled": lambda: Pulled(retain="ce", retain_weight=0.7),
    "layer": lambda: Rmu(layer=0, steering=2.0, retain_weight=1.0, weights=None),
    "transport": lambda: Snap(retain_weight=0.7, neighbours=0, wasserstein_weight=0.5, projections=5),
}
ROWS = {"forget": 18, "idk": 18, "retain": 7}
THREADS = 1  # of each process; sums of another number of threads differ in the last bits
BATCH = 5  # 20 steps of 4 or 5 rows; two processes split 5 rows into 3 and 2


@dataclass(frozen=True)
class Case:
    """One training; ``more`` may contain ``kill``, ``checkpointing``, ``fila``, ``sam``, ``worst`` and ``top``."""

    method: str
    strategy: str
    dtype: str
    micro: int
    more: str = ""

    @property
    def name(self) -> str:
        return "-".join((self.method, self.strategy, self.dtype, str(self.micro), self.more))


@dataclass
class Trained:
    """Weights by name, the logged points, and the method's state."""

    weights: dict[str, torch.Tensor]
    points: list[dict[str, float]]
    state: dict[str, float]


def model(dtype: str) -> torch.nn.Module:
    torch.manual_seed(0)
    made = llama(vocab_size=40, hidden_size=16, layers=2, heads=2, intermediate_size=32, context=64, end_id=0, pad_id=1)
    return made.to(getattr(torch, dtype)).train()


def plan(method: Any, start: torch.nn.Module) -> BatchPlan:
    """Plan 20 steps over random rows with the start model's log-probabilities."""
    rng, streams = random.Random(0), {}
    for name in method.streams:
        rows = [
            Encoded(tuple(rng.choices(range(2, 40), k=rng.randint(4, 12))), rng.randint(1, 3))
            for _ in range(ROWS[name])
        ]
        with torch.no_grad():
            known = answer_logps(start, collate(rows, pad_id=1)).tolist()
        streams[name] = StreamData([row._replace(reference=logp) for row, logp in zip(rows, known, strict=True)])
    return BatchPlan(
        streams=streams, global_batch_size=BATCH, batch_tokens=None, epochs=5, seed=1, paired=method.paired
    )


def _optim(more: str) -> Optim:
    kind = next((each for each in get_args(Kind) if each in more), None)
    return replace(
        ADAMW, sam=Sam(rho=0.05, terms="forget") if "sam" in more else None,
        aggregate=None if kind is None else Aggregate(kind=kind, temperature=0.5),
    )  # fmt: skip


def train(case: Case, folder: Path, *, devices: int) -> Trained:
    """Run a training and return its outcome; the weights may be empty on all processes but the first."""
    folder = folder / case.name
    folder.mkdir(parents=True, exist_ok=True)
    if "kill" in case.more:
        _fit(case, folder, devices=devices, seconds=0, callbacks=[KillAfter(7)])
    return _fit(case, folder, devices=devices, seconds=1e9, callbacks=[])


def _fit(case: Case, folder: Path, *, devices: int, seconds: float, callbacks: list[pl.Callback]) -> Trained:
    learner, method = model(case.dtype), METHODS[case.method]()
    start = copy.deepcopy(learner).eval().requires_grad_(False)
    planned = plan(method, start)
    rows = {name: stream.rows for name, stream in planned.streams.items()}
    if "fila" in case.more:
        learner = with_lora(learner, rank=2, alpha=4.0, dropout=0.0, seed=0)
        initialise_adapters(learner, row_weights=fisher_row_weights(learner, rows, pad_id=1), seed=0, grid=0.0)
    prepare_method(
        method, learner, rows=rows, seed=0, pad_id=1,
        micro_batch_size=case.micro, micro_batch_tokens=None, may_attach=False,
    )  # fmt: skip
    learner.train()
    if "checkpointing" in case.more:
        enable_checkpointing(learner)
    module = TrainingModule(
        model=learner, method=method, plan=planned, log_every=1,
        optim=_optim(case.more),
        reference=start if method.reference in ("model", "both") else None,
    )  # fmt: skip
    precision = {"float32": "32-true", "float64": "64-true"}[case.dtype]
    machine = TrainerSettings(
        accelerator="cpu", nodes=1, devices=devices, strategy=case.strategy, precision=precision,
        micro_batch_tokens=None, micro_batch_size=case.micro, checkpoint_seconds=seconds,
    )  # fmt: skip
    points: list[dict[str, float]] = []
    try:
        fit(module, folder=folder, machine=machine, pad_id=1, callbacks=callbacks, write=points.append)
    except KillError:
        return Trained({}, points, {})
    trained = module.trained(keep=rank() == 0)
    return Trained({name: each.detach() for name, each in trained.named_parameters()}, points, method.state_dict())


def job(folder: Path, cases: Sequence[Case], works: Sequence[StageContext], *, devices: int) -> dict[Case, Trained]:
    """Run trainings and stages in N processes; return the outcome of the trainings, stages write to their folders."""
    torch.save((list(cases), [work.to_spec() for work in works]), folder / "tasks.pt")
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), DRIVER: str(os.getpid())}
    environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}",
            "-m", "helpers.distributed", str(folder),
        ],
        capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {case: torch.load(folder / f"{case.name}.pt", weights_only=False) for case in cases}


def main(folder: Path) -> None:
    cases, specs = torch.load(folder / "tasks.pt", weights_only=False)
    for case in cases:
        found = train(case, folder, devices=world_size())
        if rank() == 0:
            torch.save(found, folder / f"{case.name}.pt")
    for spec in specs:
        run_stage(spec)
    destroy_process_group()


if __name__ == "__main__":
    from helpers import distributed  # so that pickles refer to this module rather than __main__

    distributed.main(Path(sys.argv[1]))
