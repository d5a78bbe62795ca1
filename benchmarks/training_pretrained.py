# ruff: noqa: T201
"""Training steps of a pre-trained model on a CPU beside transformers' Trainer: fp32 and bf16, same rows, same order.

    MEOW_DATA_DIR=DATA OMP_NUM_THREADS=1 python benchmarks/training_pretrained.py --model FOLDER

trainer fp32    transformers' Trainer: rows padded to the longest of their batch, head and loss at all positions
trainer bf16    the same with bf16=True (autocast)
whole fp32      this project without blocks: one pass per step, logits of all columns in which some row is scored
fp32            this project: passes of `--micro-batch-tokens`, head and loss at the scored tokens alone, in blocks
bf16            the same with model.precision=bf16-mixed, and passes twice as large: each casts and adds all gradients

A way runs in a process of its own, forked from one that has loaded the weights; ways take turns, `--rounds` times, in
another order each time. A step is everything from the end of one optimizer update to the end of the next: collating,
forward, backward, clipping and AdamW. The first step of each process is not counted. Every `x` compares rounds one by
one and shows their median: load by others hits all ways of a round, and CPU-seconds leave out waiting.

The share of the matrix products' rate is the time that the linear layers' products take for the rows' tokens without
padding (6 per weight and token; the head for answer tokens alone) at the rate of products of the model's widths in the
same format, measured in the same process, as a share of the CPU-seconds of a step.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads would not survive a fork

import pytorch_lightning as pl
import torch
import transformers
from common import BEST_OF, check, clock, count, most_memory, texts, weights_per_token

from meow_lightning.config.precision import PRECISIONS
from meow_lightning.data.batch_plan import BatchPlan, StreamData
from meow_lightning.errors import UserError
from meow_lightning.methods.finetune import FineTune
from meow_lightning.models import logprobs
from meow_lightning.models.load import load_codec, load_model
from meow_lightning.resources.hardware import bf16_instructions
from meow_lightning.training.fit import TrainerSettings, fit
from meow_lightning.training.module import Optim, TrainingModule
from meow_lightning.types import Encoded

WAYS = {
    "trainer fp32": "32-true", "trainer bf16": "bf16-mixed", "whole fp32": "32-true", "fp32": "32-true",
    "bf16": "bf16-mixed",
}  # fmt: skip
BASE = "trainer fp32"
STREAM = FineTune.streams[0]
LR, CLIP, BETAS, EPS = 1e-5, 1.0, (0.9, 0.999), 1e-8
COLUMNS = (
    "way", "CPU-s a step", "from", "to", "wall s a step", "tokens/CPU-s", "x trainer fp32", "from", "to", "peak MiB",
    "GFLOP/s", "share", "first loss",
)  # fmt: skip


class Step(NamedTuple):
    """The cost of one step, and its loss."""

    cpu: float
    wall: float
    loss: float


class Round(NamedTuple):
    """One way's steps in one process, the peak of its memory in MiB and its rate of matrix products per second."""

    steps: list[Step]
    memory: float
    rate: float

    @property
    def cpu(self) -> float:
        """CPU-seconds of the counted steps."""
        return sum(step.cpu for step in self.steps[1:])


class Task(NamedTuple):
    """The model and the rows of all ways."""

    model: Any
    plan: BatchPlan
    pad_id: int
    options: argparse.Namespace


class Stopwatch:
    """Times from one call to the next."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self._cpu, self._wall = clock("cpu"), time.perf_counter()

    def stop(self, loss: float) -> None:
        """End a step."""
        self.steps.append(Step(clock("cpu") - self._cpu, time.perf_counter() - self._wall, loss))
        self.start()


def matmul_rate(model: Any, *, tokens: int, dtype: torch.dtype) -> float:
    """FLOPs per second of the products of a layer's feed-forward widths, the best of several."""
    hidden, inner = model.config.hidden_size, model.config.intermediate_size
    states, weight = torch.randn(tokens, hidden).to(dtype), torch.randn(inner, hidden).to(dtype)
    best = float("inf")
    for _ in range(1 + BEST_OF):
        start = clock("cpu")
        for _ in range(BEST_OF):
            torch.nn.functional.linear(states, weight)
        best = min(best, (clock("cpu") - start) / BEST_OF)
    return 2 * tokens * hidden * inner / best


def with_trainer(task: Task, *, precision: str) -> list[Step]:
    """The steps of transformers' Trainer."""
    watch = Stopwatch()

    class Watch(transformers.TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            watch.start()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            watch.stop(0.0)

    def padded(rows: list[Encoded]) -> dict[str, torch.Tensor]:
        longest = max(len(row.ids) for row in rows)
        blank = [longest - len(row.ids) for row in rows]
        return {
            "input_ids": torch.tensor([[*r.ids, *[task.pad_id] * n] for r, n in zip(rows, blank, strict=True)]),
            "attention_mask": torch.tensor([[1] * (longest - n) + [0] * n for n in blank]),
            "labels": torch.tensor(
                [[-100] * r.prompt + [*r.ids[r.prompt :], *[-100] * n] for r, n in zip(rows, blank, strict=True)]
            ),
        }  # fmt: skip

    class InOrder(transformers.Trainer):
        def get_train_dataloader(self) -> torch.utils.data.DataLoader:
            steps = [task.plan.step(number)[STREAM] for number in range(1 + task.options.steps)]
            return torch.utils.data.DataLoader([padded(list(rows)) for rows in steps], batch_size=None)

    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            output_dir=folder, max_steps=1 + task.options.steps, use_cpu=True, bf16=precision == "bf16-mixed",
            learning_rate=LR, lr_scheduler_type="constant", weight_decay=0.0, max_grad_norm=CLIP, adam_beta1=BETAS[0],
            adam_beta2=BETAS[1], adam_epsilon=EPS, report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True,
            per_device_train_batch_size=task.options.global_batch_size, dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = InOrder(model=task.model, args=settings, callbacks=[Watch()], train_dataset=[0])
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return [step._replace(loss=float(loss)) for step, loss in zip(watch.steps, losses, strict=True)]


def with_lightning(task: Task, *, precision: str, tokens: int | None) -> list[Step]:
    """The steps of this project's training."""
    watch = Stopwatch()

    class Watch(pl.Callback):
        def on_train_start(self, *_: Any) -> None:
            watch.start()

        def on_train_batch_end(self, *_: Any) -> None:
            watch.stop(losses[-1])

    losses: list[float] = []
    optim = Optim(
        optimizer="adamw", lr=LR, betas=BETAS, eps=EPS, weight_decay=0.0, max_grad_norm=CLIP, warmup=0,
        schedule="constant", grid=0.0,
    )  # fmt: skip
    module = TrainingModule(
        model=task.model, method=FineTune(), plan=task.plan, optim=optim, log_every=1, reference=None
    )
    machine = TrainerSettings(
        accelerator="cpu", devices=1, nodes=1, strategy="auto", precision=PRECISIONS[precision].lightning,
        micro_batch_size=task.options.global_batch_size, micro_batch_tokens=tokens, checkpoint_seconds=1e9,
    )  # fmt: skip

    class Enough(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            trainer.should_stop = len(watch.steps) > task.options.steps

    with tempfile.TemporaryDirectory() as folder:
        fit(
            module, folder=Path(folder), machine=machine, pad_id=task.pad_id, callbacks=[Watch(), Enough()],
            write=lambda point: losses.append(point["loss"]),
        )  # fmt: skip
    return watch.steps


@contextmanager
def whole_logits() -> Iterator[None]:
    """Compute all logits of a pass at once."""
    plain = logprobs.rows_per_block
    logprobs.rows_per_block = lambda positions, vocabulary: None  # type: ignore[assignment]
    try:
        yield
    finally:
        logprobs.rows_per_block = plain


def run(task: Task, way: str) -> Round:
    """One way's steps, in this process."""
    torch.set_num_threads(1)
    precision = WAYS[way]
    dtype = torch.float32 if precision == "32-true" else torch.bfloat16
    rate = matmul_rate(task.model, tokens=task.options.micro_batch_tokens, dtype=dtype)
    if way.startswith("trainer"):
        steps = with_trainer(task, precision=precision)
    elif way.startswith("whole"):
        with whole_logits():
            steps = with_lightning(task, precision=precision, tokens=None)
    else:
        times = 1 if precision == "32-true" else 2
        steps = with_lightning(task, precision=precision, tokens=times * task.options.micro_batch_tokens)
    return Round(steps, most_memory("cpu"), rate)


def in_process(work: Callable[[], Round]) -> Round:
    """The result of some work in a process forked for it."""
    context = get_context("fork")
    near, far = context.Pipe(duplex=False)
    process = context.Process(target=lambda: far.send(work()), daemon=True)
    process.start()
    far.close()
    try:
        found: Round = near.recv()
    except EOFError:
        raise UserError("a way ended without a result; its messages are above") from None
    process.join()
    return found


def floor_flops(task: Task) -> float:
    """Operations of the linear layers in all counted steps: real tokens in the layers, answer tokens in the head."""
    head = task.model.get_output_embeddings().weight.numel()
    body = weights_per_token(task.model) - head
    rows = [row for number in range(1, 1 + task.options.steps) for row in task.plan.step(number)[STREAM]]
    return 6.0 * sum(body * (len(row.ids) - 1) + head * row.scored for row in rows)


def line(task: Task, way: str, found: dict[str, list[Round]]) -> str:
    """One way's line of the table."""
    rounds, steps = found[way], task.options.steps
    tokens = sum(len(row.ids) for number in range(1, 1 + steps) for row in task.plan.step(number)[STREAM])
    cpu = [each.cpu / steps for each in rounds]
    times = [base.cpu / own.cpu for base, own in zip(found[BASE], rounds, strict=True)]
    wall = mean(step.wall for each in rounds for step in each.steps[1:])
    shares = [floor_flops(task) / each.rate / each.cpu for each in rounds]
    cells = [way, f"{median(cpu):.2f}", f"{min(cpu):.2f}", f"{max(cpu):.2f}", f"{wall:.2f}"]
    cells += [f"{tokens / steps / median(cpu):.0f}", f"{median(times):.2f}", f"{min(times):.2f}", f"{max(times):.2f}"]
    cells += [f"{max(each.memory for each in rounds):.0f}", f"{median(each.rate for each in rounds) / 1e9:.0f}"]
    return f"| {' | '.join([*cells, f'{median(shares):.0%}', f'{rounds[0].steps[0].loss:.4f}'])} |"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder as save_pretrained writes it")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--global-batch-size", type=count, default=8, help="rows of a step")
    parser.add_argument("--micro-batch-tokens", type=count, default=256, help="padded tokens of a pass in fp32")
    parser.add_argument("--steps", type=count, default=2, help="counted steps of a round")
    parser.add_argument("--rounds", type=count, default=3)
    return parser.parse_args()


def prepare(options: argparse.Namespace) -> tuple[str, Task]:
    """(where the texts are from, the task)."""
    source, facts = texts("forget01")
    model = load_model(options.model, dtype="float32", attention="sdpa").train()
    prompt = {"template": "auto", "answer_prefix": " "}
    codec = load_codec(options.model, prompt=prompt, model=model)
    rows = [codec.encode(each.question, each.answers[0]) for each in facts]
    if len(rows) < (needed := options.global_batch_size * (1 + options.steps)):
        raise UserError(f"--steps {options.steps}: {needed} rows are needed, there are {len(rows)}; say fewer")
    plan = BatchPlan(
        streams={STREAM: StreamData(rows=rows)}, global_batch_size=options.global_batch_size, batch_tokens=None,
        epochs=1, seed=0, paired=(),
    )  # fmt: skip
    return source, Task(model, plan, codec.pad_id, options)


def main() -> int:
    """Print the table."""
    options = parse()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    check("cpu")
    source, task = prepare(options)
    lengths = [len(row.ids) for row in task.plan.streams[STREAM].rows]
    print(
        f"{source}: rows of {min(lengths)} to {max(lengths)} tokens (mean {mean(lengths):.0f}, "
        f"{mean(row.scored for row in task.plan.streams[STREAM].rows):.0f} of them scored); {options.model}, "
        f"{task.model.num_parameters():,} weights; {options.global_batch_size} rows a step, {options.rounds} rounds of "
        f"{options.steps} counted steps; 1 thread, torch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}, "
        f"bf16 instructions: {', '.join(bf16_instructions() or []) or 'none'}; load {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores",
        flush=True,
    )
    found: dict[str, list[Round]] = {way: [] for way in WAYS if way in {*options.ways, BASE}}
    for number in range(options.rounds):
        order = list(found)
        for way in (*order[number % len(order) :], *order[: number % len(order)]):
            found[way].append(in_process(lambda way=way: run(task, way)))  # type: ignore[misc]
    print(f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for way in found:
        print(line(task, way, found))
    print(f"\nload at the end: {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
