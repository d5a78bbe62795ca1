# ruff: noqa: T201
"""Steps of NPO and NPO+KL on a CPU, side by side and with equal losses: the published way, two models, kept numbers.

    OMP_NUM_THREADS=1 python benchmarks/training.py
    MEOW_DATA_DIR=DATA OMP_NUM_THREADS=1 python benchmarks/training.py --hidden-size 128 --steps 10 --repeats 3

published   every row padded to 500 tokens, logits and softmax at all positions, a frozen model asked in every step
two models  rows padded to the longest of their batch, head at answers alone, the frozen model asked in every step
kept        the same with the forget rows' log-probabilities kept with them; for NPO the frozen model is never made,
            for NPO+KL it is asked about retain rows alone
buckets     kept, with steps of rows of like length (optim.batch_tokens): as many steps an epoch, and so as many tokens
            a step

Each way learns from random weights, the same for all, in a process of its own that waits while another one makes its
step; a step is collating, forward, backward, clipping and AdamW. All but `buckets` take the same rows in the same order
and sort none; `buckets` takes the same rows in an epoch, so that what it adds is told by the time a row takes (a row to
forget, with all that goes with it): every `x` compares that.
The published way is given our definition of the loss (the divergence over answers, not over prompts and padding), so
that its losses can be compared; what it computes for that is the same. `off` is the largest relative difference from
the published way in any step's loss, its parts and its gradient's norm (log-ratios forgive errors that both models
make); more than 1e-4 is an error. Of `buckets` the first step's batch is given to the published way too, after a step.
What the kept numbers cost once is spread over all epochs' steps and counted.

The floor is the time that the linear layers' products take for the rows' tokens without padding (6 per weight and token
of the trained model, 2 of the frozen one about retain rows; the head for answer tokens alone), at the speed of a square
matrix product measured in the same run; attention, softmax and the optimizer are not counted.
"""

from __future__ import annotations

import argparse
import os
import sys
from multiprocessing import get_context
from statistics import mean, median
from typing import Any, NamedTuple

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads would not survive a fork

import torch
import transformers
from common import Asked, check, codec_of, count, matmul_peak, texts, weights_per_token
from published_training import PADDED
from training_ways import LOSSES, WAYS, Step, Task, plan_of, serve

from meow_lightning.data.batch_plan import BatchPlan
from meow_lightning.data.collate import collate
from meow_lightning.errors import UserError
from meow_lightning.models.tiny import llama, tokenizer_from

VOCABULARY = 2048
HEADS = 4
ALLOWED = 1e-4  # relative difference of losses, their parts, and gradients' norms
SMALL = 1e-3  # what is below this share of the loss is compared as if it were that share
COLUMNS = (
    "loss", "way", "CPU-s a step", "from", "to", "ms a row", "x published", "x two models", "x kept", "tokens",
    "frozen tokens", "MiB", "MiB above", "off", "of floor",
)  # fmt: skip


class Repeat(NamedTuple):
    """One training from the start."""

    once: float  # CPU-seconds for the log-probabilities that are kept
    steps: list[Step]


class Found(NamedTuple):
    """One way's outcome."""

    repeats: list[Repeat]
    memory: float  # MiB, the most that the process held in its first training
    before: float  # MiB, before it made a model
    checked: tuple[Step, Step] | None = None  # one batch this way and the published one, where steps cannot be compared

    @property
    def steps(self) -> list[Step]:
        """Those of all repeats."""
        return [step for repeat in self.repeats for step in repeat.steps]


TASK: Task


def compare(loss: str) -> dict[str, Found]:
    """Every way's outcome; they take turns step by step, so that a busy machine hits all alike."""
    context, pipes, processes = get_context("fork"), {}, []
    for way in WAYS:
        pipes[way], far = context.Pipe()
        processes.append(context.Process(target=serve, args=(far, TASK, loss, way), daemon=True))
        processes[-1].start()
        far.close()  # so that reading ends where the process does

    def ask(way: str, *words: Any) -> Any:
        pipes[way].send(words)
        return pipes[way].recv()

    memory = {}
    for way in WAYS:  # untimed, since first calls are slow; repeats would add holes in the heap to the memory
        ask(way, "begin")
        for number in range(TASK.options.steps):
            ask(way, "step", number)
        memory[way] = ask(way, "memory")
    found: dict[str, list[Repeat]] = {way: [] for way in WAYS}
    for repeat in range(TASK.options.repeats):
        for way in WAYS:
            found[way].append(Repeat(ask(way, "begin"), []))
        for number in range(TASK.options.steps):
            first = (repeat + number) % len(WAYS)
            for way in (*WAYS[first:], *WAYS[:first]):
                found[way][repeat].steps.append(ask(way, "step", number))
    checked = ask("buckets", "both", 0)
    for way, process in zip(WAYS, processes, strict=True):
        pipes[way].send(None)
        process.join()
    return {way: Found(found[way], *memory[way], checked if way == "buckets" else None) for way in WAYS}


def seconds(repeats: list[Repeat], *, over: int) -> float:
    """CPU-seconds a step: the mean of all steps' medians over the repeats, and a share of what is done once.

    Args:
        repeats: Of one way.
        over: Steps over which that is spread.
    """
    same = zip(*(repeat.steps for repeat in repeats), strict=True)
    once = median(repeat.once for repeat in repeats)
    return mean(median(step.seconds for step in each) for each in same) + once / over


def apart(some: list[Step], others: list[Step], *, name: str) -> float:
    """The largest relative difference of one value; values that are a small share of the loss count as that share."""
    pairs = ((one.values, other.values) for one, other in zip(some, others, strict=True))
    return max(abs(a[name] - b[name]) / max(abs(b[name]), SMALL * abs(b["loss"])) for a, b in pairs)


def floor_flops(plan: BatchPlan) -> float:
    """Operations of the linear layers in a step, on average: real tokens in the layers, answer tokens in the head."""
    model = llama(**TASK.sizes)
    head = model.get_output_embeddings().weight.numel()
    body, flops = weights_per_token(model) - head, 0
    for number in range(TASK.options.steps):
        for name, rows in plan.step(number).items():
            read = sum(len(row.ids) - 1 for row in rows)  # the end token is never read, only predicted
            once = 2 * (body * read + head * sum(row.scored for row in rows))
            flops += (4 if name == "retain" else 3) * once
    return flops / TASK.options.steps


def table(loss: str, peak: float) -> tuple[float, str]:
    """(the largest relative difference, what else there is to say); prints one loss's lines."""
    plans = {way: plan_of(TASK, LOSSES[loss], TASK.streams, buckets=way == "buckets") for way in WAYS}
    found, all_steps = compare(loss), plans["kept"].total_steps
    first, names = found["published"].steps, [*LOSSES[loss].streams, "loss", "gradient"]
    spent = {way: seconds(each.repeats, over=all_steps) for way, each in found.items()}
    row = {way: spent[way] / mean(step.rows for step in each.steps) for way, each in found.items()}
    off = {}
    for way, each in found.items():
        some, others = ([one] for one in each.checked) if each.checked else (each.steps, first)
        off[way] = max(apart(some, others, name=name) for name in names)
        one = [seconds([repeat], over=all_steps) for repeat in each.repeats]
        cells = [loss, way, f"{spent[way]:.4f}", f"{min(one):.4f}", f"{max(one):.4f}", f"{1000 * row[way]:.2f}"]
        cells += [f"{row[other] / row[way]:.2f}" for other in ("published", "two models", "kept")]
        cells += [f"{mean(s.tokens for s in each.steps):.0f}", f"{mean(s.frozen for s in each.steps):.0f}"]
        cells += [f"{each.memory:.0f}", f"{each.memory - each.before:.0f}", f"{off[way]:.1e}"]
        floor = floor_flops(plans[way]) / peak
        print(f"| {' | '.join([*cells, f'{floor / spent[way]:.1%}'])} |", flush=True)
    values = ", ".join(f"{step.values['loss']:.4f}" for step in first[: TASK.options.steps])
    once = median(each.once for each in found["kept"].repeats)
    return max(off.values()), (
        f"{loss}: losses {values}; largest difference {max(off.values()):.1e}; the kept "
        f"log-probabilities took {once:.4f} s once, {once / all_steps:.5f} s of each of the {all_steps} steps of "
        f"{TASK.options.epochs} epochs (counted above); {asked(loss)}; {padding(plans)}"
    )


def padding(plans: dict[str, BatchPlan]) -> str:
    """How much of what the trained model reads is padding, in words, without and with buckets."""
    said = []
    for way in ("kept", "buckets"):
        steps = [plans[way].step(number) for number in range(TASK.options.steps)]
        passes = [[len(row.ids) for row in rows] for step in steps for rows in step.values()]
        share = 1 - sum(map(sum, passes)) / sum(len(lengths) * max(lengths) for lengths in passes)
        sizes = [len(step["forget"]) for step in steps]
        said.append(f"{share:.0%} in `{way}` (steps of {min(sizes)} to {max(sizes)} rows)")
    return f"padding: {' and '.join(said)}"


def asked(loss: str) -> str:
    """Whether the method as it is does what `kept` does."""
    method, calls, model = LOSSES[loss], 0, llama(**TASK.sizes).requires_grad_(False)

    def frozen(**given: Any) -> Any:
        nonlocal calls
        calls += 1
        return model(**given)

    batch = {name: collate(TASK.streams[name][:1], pad_id=TASK.pad_id) for name in method.streams}
    method.loss(model, batch, frozen if method.reference in ("model", "both") else None)
    least = len(method.streams) - 1
    said = "as in `kept`" if calls == least else f"`kept` asks it {least} times"
    return f"{type(method).__name__} as it stands asks a frozen model {calls} times a step: {said}"


def prepare(options: argparse.Namespace) -> tuple[str, Task]:
    """(where the texts are from, the task)."""
    source, forget = texts("forget01")
    if source.startswith("TOFU"):
        source, retain = "TOFU forget01 and retain_perturbed", texts("retain")[1]
    else:
        forget, retain = forget[:40], forget[40:440]  # as many as TOFU has
    facts: dict[str, list[Asked]] = {"forget": forget[: options.rows], "retain": retain[: 10 * options.rows]}
    words = [f"{question} {answers[0]}" for question, answers in [*forget, *retain]]
    tokenizer = tokenizer_from(words, vocab_size=VOCABULARY)
    codec = codec_of(tokenizer, context=PADDED, end_ids=frozenset())
    streams = {name: [codec.encode(each.question, each.answers[0]) for each in all_] for name, all_ in facts.items()}
    sizes = {
        "vocab_size": len(tokenizer), "hidden_size": options.hidden_size, "layers": options.layers, "heads": HEADS,
        "intermediate_size": 3 * options.hidden_size, "context": PADDED, "end_id": codec.end_id, "pad_id": codec.pad_id,
    }  # fmt: skip
    return source, Task(streams, sizes, codec.pad_id, options)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--hidden-size", type=count, default=256, help="width of the model, a multiple of 8")
    parser.add_argument("--layers", type=count, default=4)
    parser.add_argument("--rows", type=count, default=40, help="rows to forget; ten times as many are retained")
    parser.add_argument("--global-batch-size", type=count, default=8, help="rows of each stream in a step")
    parser.add_argument("--steps", type=count, default=5, help="steps of a repeat")
    parser.add_argument("--repeats", type=count, default=5, help="each from the start; of each step the median counts")
    parser.add_argument("--epochs", type=count, default=10, help="epochs over which the kept numbers' cost is spread")
    parser.add_argument(
        "--eval-batch-size", type=count, default=64, help="rows per pass that makes kept numbers (trainer=cpu)"
    )
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate")
    return parser.parse_args()


def main() -> int:
    """1 where the ways' losses or gradients differ, else 0; prints the table."""
    global TASK
    options = parse()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    check("cpu")
    source, TASK = prepare(options)
    method = LOSSES["NPO"]
    if options.steps > (most := plan_of(TASK, method, TASK.streams, buckets=False).total_steps):
        raise UserError(f"--steps {options.steps}: there are {most} in {options.epochs} epochs; say so many or fewer")
    peak = matmul_peak("cpu", torch.float32)
    lengths = {name: sorted(len(row.ids) for row in rows) for name, rows in TASK.streams.items()}
    said = ", ".join(
        f"{len(all_)} {name} rows of {all_[0]} to {all_[-1]} tokens (mean {mean(all_):.0f})"
        for name, all_ in lengths.items()
    )
    print(
        f"{source}: {said}; Llama {options.hidden_size} wide, {options.layers} layers, "
        f"{llama(**TASK.sizes).num_parameters():,} weights; {options.global_batch_size} rows of each stream a step, "
        f"{options.steps} steps, {options.repeats} repeats; float32, 1 thread, torch {torch.__version__}, "
        f"matmul peak {peak / 1e9:.0f} GFLOP/s, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n\n"
        f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}",
        flush=True,
    )
    offs, notes = zip(*(table(loss, peak) for loss in options.losses), strict=True)
    off = max(offs)
    print("", *notes, sep="\n")
    if off > ALLOWED:
        print(f"error: losses or gradients differ by {off:.1e}, allowed: {ALLOWED:.0e}", file=sys.stderr)
    return int(off > ALLOWED)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
