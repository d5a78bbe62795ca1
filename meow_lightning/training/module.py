"""The LightningModule of every training in this project: step, optimizer, schedule and logging."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR

from meow_lightning.data.batch_plan import BatchPlan, Counts
from meow_lightning.errors import UserError, check_choice
from meow_lightning.methods.base import BaseMethod
from meow_lightning.training.aggregate import Aggregate, weighted
from meow_lightning.training.fsdp import ShardedModel, shard
from meow_lightning.training.meter import Meter
from meow_lightning.training.optimizers import optimizer_of
from meow_lightning.training.sam import Sam, perturbed
from meow_lightning.types import Batch, LossParts, Method, OptimizerName

GRID = 2.0**-22
"""Weight grid of reproducible training: float32 holds its multiples below 4 exactly, and MEOW's updates exceed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optim:
    """Optimizer settings.

    Attributes:
        optimizer: Implementation of AdamW.
        lr: Peak learning rate, above 0.
        betas: AdamW's two decay rates.
        eps: AdamW's epsilon.
        weight_decay: Decoupled weight decay, 0 or more.
        max_grad_norm: Largest gradient norm; 0 for no clipping.
        warmup: Warm-up as a share of all steps (below 1) or a number of steps (1 and more).
        schedule: After the warm-up: linear decay to 0, or constant.
        grid: Round weights to multiples of this power of two after every step; 0 to disable.
        sam: Sharpness-aware minimization; ``None`` for the gradient at the weights themselves.
        aggregate: Aggregate of the forget set's rows; ``None`` for their mean.
    """

    optimizer: OptimizerName
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    max_grad_norm: float
    warmup: float
    schedule: Literal["linear", "constant"]
    grid: float
    sam: Sam | None = None
    aggregate: Aggregate | None = None


def schedule_factor(optim: Optim, total: int) -> Callable[[int], float]:
    """Build the function step -> learning rate factor: (t + 1) / (w + 1) for t < w, then the decay.

    The decay is (total - t) / (total - w) for ``schedule="linear"``, 1 for ``"constant"``; w = warm-up steps.
    """
    warmup = int(optim.warmup if optim.warmup >= 1 else optim.warmup * total)
    check_choice("optim.schedule", optim.schedule, ("linear", "constant"))

    def factor(t: int) -> float:
        if t < warmup:
            return (t + 1) / (warmup + 1)
        return 1.0 if optim.schedule == "constant" else max(0.0, (total - t) / max(1, total - warmup))

    return factor


def round_to_grid(weights: Iterable[torch.Tensor], grid: float) -> None:
    """Round weights in place to the nearest multiple of ``grid``, ties to even.

    Two machines, or two ways to split a batch into passes, sum in different orders and differ by float64 rounding,
    about 1e-16 of a weight. Training amplifies any difference (measured: tenfold every 50 steps), but rounding to a
    grid some 1e9 times coarser yields the same number again, except for weights within 1e-16 of the middle between two
    multiples.

    Args:
        weights: Float64 weights: with float32 rounding (1e-7), many weights would be close to a middle.
        grid: A power of two, so that its multiples are exact.
    """
    with torch.no_grad():
        for weight in weights:
            local = weight.to_local() if isinstance(weight, DTensor) else weight
            local.div_(grid).round_().mul_(grid)


def total_loss(parts: LossParts, counts: Counts) -> torch.Tensor:
    """Compute a micro-batch's share of the step's loss: sum over parts of weight * sum / global count."""
    terms = [part.weight * part.sum / counts[part.stream][part.per] for part in parts.values()]
    return torch.stack([term.float() if term.dtype != torch.float64 else term for term in terms]).sum()


class TrainingModule(pl.LightningModule):
    """Trains ``model`` with ``method`` on ``plan``.

    Optimization is manual because one item of the loader is a whole global step: the gradients of its micro-batches are
    accumulated and exchanged once, in the last of them.

    Args:
        model: A causal language model.
        method: Any provider of loss parts (see :class:`meow_lightning.types.Method`).
        plan: The global batches.
        optim: Optimizer and schedule.
        log_every: Steps between logged points.
        reference: The frozen start model, if the method needs it.
    """

    def __init__(
        self, *, model: torch.nn.Module, method: Method, plan: BatchPlan, optim: Optim, log_every: int,
        reference: torch.nn.Module | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.automatic_optimization = False
        self.model, self.method, self.plan, self.optim, self.log_every = model, method, plan, optim, log_every
        self._reference = (reference,)  # not a submodule: neither wrapped nor saved
        # Otherwise processes need not synchronise every step.
        self._watched = type(method).on_step_end is not BaseMethod.on_step_end
        self._regularized = type(method).regularizer is not BaseMethod.regularizer
        self._start: dict[str, torch.Tensor] = {}  # the trained weights before the first step, for the regularizer
        self.shards: ShardedModel | None = None
        self._meter = Meter()

    def configure_model(self) -> None:
        """Shard model and reference if the strategy provides a device mesh, and keep what the regularizer compares."""
        if self._device_mesh is not None:
            mesh = self._device_mesh["data_parallel"]
            self.shards = ShardedModel(self.model, mesh)
            for reference in filter(None, self._reference):
                shard(reference, mesh)
        if self._regularized:  # here, since a resumed training has not loaded its checkpoint yet
            trained = ((name, each) for name, each in self.model.named_parameters() if each.requires_grad)
            self._start = {name: weight.detach().clone() for name, weight in trained}

    def full_model(self) -> contextlib.AbstractContextManager[torch.nn.Module]:
        """Provide the model with all its weights: itself, or a gathered copy within the context."""
        return contextlib.nullcontext(self.model) if self.shards is None else self.shards.full_model()

    def trained(self, *, keep: bool) -> torch.nn.Module:
        """Return the model after training: itself, or if sharded a plain copy on the CPU.

        Args:
            keep: Whether this process needs a sharded model's weights; otherwise the copy has none.
        """
        return self.model if self.shards is None else self.shards.full_cpu_copy(keep=keep)

    def configure_optimizers(self) -> Any:
        """Create AdamW over the trainable weights, and the schedule, stepped once per global step."""
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        optimizer = optimizer_of(
            self.optim.optimizer, trained, lr=self.optim.lr, betas=self.optim.betas, eps=self.optim.eps,
            weight_decay=self.optim.weight_decay,
        )  # fmt: skip
        schedule = LambdaLR(optimizer, schedule_factor(self.optim, self.plan.total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        """Move the reference to the model's device and round initial weights to the grid."""
        self._round_weights()
        self._start = {name: weight.to(self.device) for name, weight in self._start.items()}
        if self.optim.grid:
            round_to_grid(self._start.values(), self.optim.grid)
        for reference in filter(None, self._reference):
            reference.to(self.device)

    def on_train_start(self) -> None:
        """Stop at once if a resumed training had already ended."""
        self._end_when_done()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the method's state."""
        checkpoint["method"] = self.method.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the method's state."""
        if "method" in checkpoint:  # absent in checkpoints of earlier versions
            self.method.load_state_dict(checkpoint["method"])

    def training_step(self, batch: dict[str, Any], batch_index: int) -> None:
        """Run one global step: forward and backward per micro-batch, one exchange, one update."""
        step: int = batch["step"]
        self._meter.begin(batch["tokens"])
        optimizer = self.optimizers()
        optimizer.zero_grad()  # type: ignore[union-attr]
        logged: dict[str, torch.Tensor] = {}
        self._add_gradients(batch, logged)
        if self._regularized:
            self._regularize(logged)
        if self.optim.max_grad_norm > 0:
            self.clip_gradients(optimizer, gradient_clip_val=self.optim.max_grad_norm, gradient_clip_algorithm="norm")  # type: ignore[arg-type]
        if self._watched:
            values = self._reduced(logged)
            self.method.on_step_end(
                {name.removeprefix("loss/"): value for name, value in values.items() if "/" in name}
            )
        rate = optimizer.param_groups[0]["lr"]  # type: ignore[union-attr]
        optimizer.step()  # type: ignore[union-attr]
        self._round_weights()
        self.lr_schedulers().step()  # type: ignore[union-attr, call-arg]
        self._end_when_done()
        if (step + 1) % self.log_every == 0 or step + 1 == self.plan.total_steps or self.method.done:
            self._log_point(logged, rate=rate, step=step + 1)
        else:
            self._meter.end()

    def _add_gradients(self, batch: dict[str, Any], logged: dict[str, torch.Tensor]) -> None:
        """Compute the gradients of the method's loss, exchanged, and add its value at the weights to ``logged``."""
        sam, aggregate = self.optim.sam, self.optim.aggregate
        if sam is None:
            self._add_pass(batch, batch["micros"], logged, aggregate=aggregate)
            return
        steep, calm = sam.split(batch["micros"])
        if steep:
            self._add_pass(batch, steep, logged, aggregate=aggregate)
            with perturbed(self.model.parameters(), rho=sam.rho):
                self._add_pass(batch, steep, {}, aggregate=aggregate)
        if calm:  # no row of a term that is aggregated
            self._add_pass(batch, calm, logged, aggregate=None)

    def _add_pass(
        self, batch: dict[str, Any], micros: Sequence[Batch], logged: dict[str, torch.Tensor], *,
        aggregate: Aggregate | None,
    ) -> None:  # fmt: skip
        """Add the gradients of some micro-batches of a step, exchanged in the last of them, and their loss."""
        self._seed_step(batch["step"])
        weights = None
        if aggregate is not None:
            weights, surplus = aggregate.row_weights(self._loss, micros)
            counted = weights[0].new_tensor(surplus, dtype=torch.float64) * self.trainer.is_global_zero
            logged["loss"] = logged.get("loss", torch.zeros_like(counted)) + counted
            self._seed_step(batch["step"])
        for number, micro in enumerate(micros):
            with contextlib.nullcontext() if number == len(micros) - 1 else self._no_exchange():
                parts = self._loss(micro)
                if weights is not None:
                    parts = weighted(parts, weights[number], batch["counts"])
                loss = total_loss(parts, batch["counts"])
                # Gradients are averaged over processes, but the loss is a sum over them.
                self.manual_backward(loss * self.trainer.world_size)
            self._collect(logged, loss, parts, batch["counts"])

    def _loss(self, micro: Batch) -> LossParts:
        return self.method.loss(self.model, micro, self._reference[0])

    def _seed_step(self, step: int) -> None:
        """Seed dropout from run seed, step and process alone: alike after a resumption and in each pass."""
        _seed(hash((self.plan.seed, step, self.global_rank)) % 2**31)

    def _regularize(self, logged: dict[str, torch.Tensor]) -> None:
        """Add the gradient of the method's regularizer, which is the same in all processes.

        Its own backward pass follows the exchange of the gradients, which would divide it by the number of processes.
        """
        value = self.method.regularizer(self.model, self._start)
        if value is None:
            return
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        whole.backward()  # type: ignore[no-untyped-call]
        counted = whole.detach().double() * self.trainer.is_global_zero  # logged values are summed over processes
        logged |= {"loss": logged["loss"] + counted, "loss/regularizer": counted}

    def _end_when_done(self) -> None:
        if self.method.done:
            self.trainer.should_stop = True

    def _round_weights(self) -> None:
        if self.optim.grid:
            round_to_grid((each for each in self.model.parameters() if each.requires_grad), self.optim.grid)

    def _no_exchange(self) -> contextlib.AbstractContextManager[None]:
        if self.shards is not None:
            return self.shards.no_exchange()
        wrapped = self.trainer.strategy.model
        return wrapped.no_sync() if hasattr(wrapped, "no_sync") else contextlib.nullcontext()  # type: ignore[union-attr, operator]

    @staticmethod
    def _collect(logged: dict[str, torch.Tensor], loss: torch.Tensor, parts: LossParts, counts: Counts) -> None:
        # In float64: the values that a method sees must not depend on how the step was split.
        values = {"loss": loss.detach().double()}
        values |= {
            f"loss/{name}": part.sum.detach().double() / counts[part.stream][part.per] for name, part in parts.items()
        }
        for name, value in values.items():
            logged[name] = logged.get(name, torch.zeros_like(value)) + value

    def _reduced(self, logged: dict[str, torch.Tensor]) -> dict[str, float]:
        """Sum logged values over all processes."""
        names = list(logged)
        values = self.trainer.strategy.reduce(torch.stack([logged[name] for name in names]), reduce_op="sum")
        return {name: float(value) for name, value in zip(names, values, strict=True)}  # type: ignore[arg-type]

    def _log_point(self, logged: dict[str, torch.Tensor], *, rate: float, step: int) -> None:
        point = self._reduced({**logged, "tokens": logged["loss"].new_tensor(self._meter.tokens)})
        self._meter.end()  # after the values, which wait for the GPU
        machine = self._meter.read(point.pop("tokens"), self.device)
        if not math.isfinite(point["loss"]):
            raise UserError(
                f"the loss is {point['loss']} at step {step}: training diverged, or the start model is "
                "broken; a lower learning rate (optim.lr) may help"
            )
        if self.trainer.is_global_zero and self.logger is not None:
            epoch = step / self.plan.steps_per_epoch
            self.logger.log_metrics({**point, "lr": rate, "epoch": epoch, **machine}, step=step)


def _seed(seed: int) -> None:
    """Seed torch's generators. ``torch.manual_seed`` would queue a call with its traceback for CUDA at every step."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)
