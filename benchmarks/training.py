# ruff: noqa: T201
"""Steps of NPO and NPO+KL on a CPU, side by side and with equal losses: the published way, two models, kept numbers.

    OMP_NUM_THREADS=1 python benchmarks/training.py
    MEOW_DATA_DIR=DATA OMP_NUM_THREADS=1 python benchmarks/training.py --hidden 128 --steps 10 --repeats 3

published   every row padded to 500 tokens, logits and softmax at all positions, a frozen model asked in every step
two models  rows padded to the longest of their batch, head at answers alone, the frozen model asked in every step
kept        the same with the forget rows' log-probabilities kept with them; for NPO the frozen model is never made,
            for NPO+KL it is asked about retain rows alone

No way sorts rows by length. Each learns from the same rows in the same order from the same random weights, in a process
of its own that waits while another one makes its step; a step is collating, forward, backward, clipping and AdamW.
The published way is given our definition of the loss (the divergence over answers, not over prompts and padding), so
that its losses can be compared; what it computes for that is the same. `off` is the largest relative difference from
the published way in any step's loss, its parts and its gradient's norm (log-ratios forgive errors that both models
make); more than 1e-4 is an error. What the kept numbers cost once is spread over all epochs' steps and counted.

The floor is the time that the linear layers' products take for the rows' tokens without padding (6 per weight and token
of the trained model, 2 of the frozen one about retain rows; the head for answer tokens alone), at the speed of a square
matrix product measured in the same run; attention, softmax and the optimizer are not counted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import mean, median
from typing import Any, NamedTuple

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads would not survive a fork

import torch
import transformers
from common import Asked, check, clock, codec_of, count, matmul_peak, most_memory, texts, weights_per_token
from torch.nn import functional

from meow_lightning.data.collate import collate
from meow_lightning.data.plan import Plan, Stream, counts
from meow_lightning.losses import answer_logps
from meow_lightning.methods.npo import Npo
from meow_lightning.methods.npo_kl import NpoKl
from meow_lightning.methods.terms import nearness, preference
from meow_lightning.models.tiny import llama, tokenizer_from
from meow_lightning.module import total_loss
from meow_lightning.types import Batch, Encoded, LossPart, LossParts, Rows, UserError

PADDED = 500  # tokens of every row, the published way
VOCABULARY = 2048
HEADS = 4
BETA, RETAIN_WEIGHT, CLIP = 0.1, 1.0, 1.0  # conf/method/npo_kl.yaml, conf/optim
ALLOWED = 1e-4  # relative difference of losses, their parts, and gradients' norms
SMALL = 1e-3  # what is below this share of the loss is compared as if it were that share
LOSSES: dict[str, Any] = {"NPO": Npo(beta=BETA), "NPO+KL": NpoKl(beta=BETA, retain_weight=RETAIN_WEIGHT)}
WAYS = ("published", "two models", "kept")
COLUMNS = (
    "loss", "way", "CPU-s a step", "from", "to", "x published", "x two models", "tokens", "frozen tokens", "MiB",
    "MiB above", "off", "of floor",
)  # fmt: skip


class Task(NamedTuple):
    """What all ways work on; global, so that forked processes have it."""

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


class Repeat(NamedTuple):
    """One training from the start."""

    once: float  # CPU-seconds for the log-probabilities that are kept
    steps: list[Step]


class Found(NamedTuple):
    """One way's outcome."""

    repeats: list[Repeat]
    memory: float  # MiB, the most that the process held in its first training
    before: float  # MiB, before it made a model

    @property
    def steps(self) -> list[Step]:
        """Those of all repeats."""
        return [step for repeat in self.repeats for step in repeat.steps]


TASK: Task


def fresh() -> Any:
    """The start model, the same one each time."""
    torch.manual_seed(0)
    return llama(**TASK.sizes).train()


def plan_of(method: Any, streams: dict[str, list[Encoded]]) -> Plan:
    """The global batches of all epochs."""
    found = {name: Stream(rows=streams[name]) for name in method.streams}
    return Plan(streams=found, batch=TASK.options.batch, epochs=TASK.options.epochs, seed=0, paired=())


def wide(rows: Rows) -> Rows:
    """The rows padded to the published length."""
    more = (0, PADDED - rows.ids_BT.shape[1])
    ids = functional.pad(rows.ids_BT, more, value=TASK.pad_id)
    return Rows(ids, functional.pad(rows.attention_BT, more), functional.pad(rows.scored_BT, more), rows.reference_B)


def whole_logits(model: Any, rows: Rows) -> torch.Tensor:
    """The logits that predict every token but a row's first, scored or not."""
    logits = model(input_ids=rows.ids_BT, attention_mask=rows.attention_BT, use_cache=False).logits
    return logits[:, :-1].contiguous()


def whole_logps(model: Any, rows: Rows) -> torch.Tensor:
    """Shape (B,): log p(answer | prompt) by a cross-entropy over all positions."""
    labels = rows.ids_BT.masked_fill(rows.scored_BT == 0, -100)[:, 1:].contiguous()
    nll = functional.cross_entropy(whole_logits(model, rows).flatten(0, 1), labels.flatten(), reduction="none")
    return -nll.view(labels.shape).sum(-1)


def whole_divergence(model: Any, frozen: Any, rows: Rows) -> torch.Tensor:
    """The divergence from the frozen model, computed at all positions and summed over the answers."""
    with torch.no_grad():
        known = whole_logits(frozen, rows).log_softmax(-1)
    logps = whole_logits(model, rows).log_softmax(-1)
    each = functional.kl_div(logps, known, log_target=True, reduction="none").sum(-1)
    return (each * rows.scored_BT[:, 1:]).sum()


def published(model: Any, frozen: Any, batch: Batch) -> LossParts:
    """The loss the published way."""
    with torch.no_grad():
        known = whole_logps(frozen, batch["forget"])
    margin = known - whole_logps(model, batch["forget"])
    parts = {"forget": preference(margin, batch["forget"], beta=BETA, stream="forget", weight=1.0)}
    if "retain" in batch:
        divergence = whole_divergence(model, frozen, batch["retain"])
        parts["retain"] = LossPart(sum=divergence, stream="retain", per="token", weight=RETAIN_WEIGHT)
    return parts


def two_models(method: Any, model: Any, frozen: Any, batch: Batch) -> LossParts:
    """The loss with the frozen model asked about every row of every step."""
    parts = Npo.loss(method, model, batch, frozen)
    if "retain" in batch:
        parts["retain"] = nearness(model, frozen, batch["retain"], stream="retain", weight=RETAIN_WEIGHT)
    return parts


class Learner:
    """One way, in a process of its own."""

    def __init__(self, loss: str, way: str) -> None:
        self.method, self.way, self.read = LOSSES[loss], way, Counter[str]()
        self.before = most_memory("cpu")
        self.model: Any = None
        self.optimizer: Any = None
        self.frozen = None
        if way != "kept" or "retain" in self.method.streams:
            self.frozen = fresh().eval().requires_grad_(False)
            self.frozen.register_forward_pre_hook(partial(self._count, "frozen"), with_kwargs=True)

    def begin(self) -> float:
        """Start anew; the CPU-seconds that the kept log-probabilities took."""
        self.model = self.optimizer = None  # the old ones go before new ones come
        self.model, streams, start = fresh(), TASK.streams, clock("cpu")
        if self.way == "kept":
            streams = {**streams, "forget": self._with_logps(streams["forget"])}
        once = clock("cpu") - start
        self.plan = plan_of(self.method, streams)
        self.model.register_forward_pre_hook(partial(self._count, "trained"), with_kwargs=True)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=TASK.options.rate, weight_decay=0.0)
        return once

    def step(self, number: int) -> Step:
        """Make one step."""
        self.read.clear()
        start = clock("cpu")
        rows = self.plan.step(number)
        batch = {name: collate(each, pad_id=TASK.pad_id) for name, each in rows.items()}
        self.optimizer.zero_grad()
        parts, per = self._parts(batch), counts(rows)
        loss = total_loss(parts, per)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        taken = clock("cpu") - start
        values = {name: part.weight * part.sum.item() / per[part.stream][part.per] for name, part in parts.items()}
        values |= {"loss": loss.item(), "gradient": norm.item()}
        return Step(taken, values, self.read["trained"], self.read["frozen"])

    def memory(self) -> tuple[float, float]:
        """(the most that this process held, what it held before it made a model), in MiB."""
        return most_memory("cpu"), self.before

    def _parts(self, batch: Batch) -> LossParts:
        if self.way == "published":
            return published(self.model, self.frozen, {name: wide(rows) for name, rows in batch.items()})
        if self.way == "two models":
            return two_models(self.method, self.model, self.frozen, batch)
        return self.method.loss(self.model, batch, self.frozen if self.method.reference == "both" else None)

    def _with_logps(self, rows: list[Encoded]) -> list[Encoded]:
        order = sorted(range(len(rows)), key=lambda place: -len(rows[place].ids))
        found = list(rows)
        size = TASK.options.asked
        for start in range(0, len(order), size):
            places = order[start : start + size]
            with torch.no_grad():
                logps = answer_logps(self.model, collate([rows[place] for place in places], pad_id=TASK.pad_id))
            for place, logp in zip(places, logps.tolist(), strict=True):
                found[place] = rows[place]._replace(reference=logp)
        return found

    def _count(self, which: str, _: Any, __: Any, given: dict[str, Any]) -> None:
        self.read[which] += given["input_ids"].numel()


def serve(pipe: Connection, loss: str, way: str) -> None:
    """Do what is asked of a learner until nothing more is."""
    learner = Learner(loss, way)
    for name, *arguments in iter(pipe.recv, None):
        pipe.send(getattr(learner, name)(*arguments))


def compare(loss: str) -> dict[str, Found]:
    """Every way's outcome; they take turns step by step, so that a busy machine hits all alike."""
    context, pipes, processes = get_context("fork"), {}, []
    for way in WAYS:
        pipes[way], far = context.Pipe()
        processes.append(context.Process(target=serve, args=(far, loss, way), daemon=True))
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
    for way, process in zip(WAYS, processes, strict=True):
        pipes[way].send(None)
        process.join()
    return {way: Found(found[way], *memory[way]) for way in WAYS}


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


def floor_flops(method: Any) -> float:
    """Operations of the linear layers in a step, on average: real tokens in the layers, answer tokens in the head."""
    model = llama(**TASK.sizes)
    head = model.get_output_embeddings().weight.numel()
    body = weights_per_token(model) - head
    plan, flops = plan_of(method, TASK.streams), 0
    for number in range(TASK.options.steps):
        for name, rows in plan.step(number).items():
            read = sum(len(row.ids) - 1 for row in rows)  # the end token is never read, only predicted
            once = 2 * (body * read + head * sum(row.scored for row in rows))
            flops += (4 if name == "retain" else 3) * once
    return flops / TASK.options.steps


def table(loss: str, peak: float) -> tuple[float, str]:
    """(the largest relative difference, what else there is to say); prints one loss's lines."""
    found, all_steps = compare(loss), plan_of(LOSSES[loss], TASK.streams).total_steps
    spent = {way: seconds(each.repeats, over=all_steps) for way, each in found.items()}
    first, floor = found["published"].steps, floor_flops(LOSSES[loss]) / peak
    names = [*LOSSES[loss].streams, "loss", "gradient"]
    off = {way: max(apart(each.steps, first, name=name) for name in names) for way, each in found.items()}
    for way, each in found.items():
        one = [seconds([repeat], over=all_steps) for repeat in each.repeats]
        cells = [loss, way, f"{spent[way]:.4f}", f"{min(one):.4f}", f"{max(one):.4f}"]
        cells += [f"{spent[other] / spent[way]:.2f}" for other in ("published", "two models")]
        cells += [f"{mean(s.tokens for s in each.steps):.0f}", f"{mean(s.frozen for s in each.steps):.0f}"]
        cells += [f"{each.memory:.0f}", f"{each.memory - each.before:.0f}", f"{off[way]:.1e}"]
        print(f"| {' | '.join([*cells, f'{floor / spent[way]:.1%}'])} |", flush=True)
    values = ", ".join(f"{step.values['loss']:.4f}" for step in first[: TASK.options.steps])
    once = median(each.once for each in found["kept"].repeats)
    return max(off.values()), (
        f"{loss}: losses {values}; largest difference {max(off.values()):.1e}; the kept "
        f"log-probabilities took {once:.4f} s once, {once / all_steps:.5f} s of each of the {all_steps} steps of "
        f"{TASK.options.epochs} epochs (counted above); {asked(loss)}"
    )


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
        "vocab_size": len(tokenizer), "hidden_size": options.hidden, "layers": options.layers, "heads": HEADS,
        "intermediate_size": 3 * options.hidden, "context": PADDED, "end_id": codec.end_id, "pad_id": codec.pad_id,
    }  # fmt: skip
    return source, Task(streams, sizes, codec.pad_id, options)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--hidden", type=count, default=256, help="width of the model, a multiple of 8")
    parser.add_argument("--layers", type=count, default=4)
    parser.add_argument("--rows", type=count, default=40, help="rows to forget; ten times as many are retained")
    parser.add_argument("--batch", type=count, default=8, help="rows of each stream in a step")
    parser.add_argument("--steps", type=count, default=5, help="steps of a repeat")
    parser.add_argument("--repeats", type=count, default=5, help="each from the start; of each step the median counts")
    parser.add_argument("--epochs", type=count, default=10, help="epochs over which the kept numbers' cost is spread")
    parser.add_argument("--asked", type=count, default=64, help="rows per pass that makes kept numbers (trainer=cpu)")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate")
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
    if options.steps > (most := plan_of(method, TASK.streams).total_steps):
        raise UserError(f"--steps {options.steps}: there are {most} in {options.epochs} epochs; say so many or fewer")
    peak = matmul_peak("cpu", torch.float32)
    lengths = {name: sorted(len(row.ids) for row in rows) for name, rows in TASK.streams.items()}
    said = ", ".join(
        f"{len(all_)} {name} rows of {all_[0]} to {all_[-1]} tokens (mean {mean(all_):.0f})"
        for name, all_ in lengths.items()
    )
    print(
        f"{source}: {said}; Llama {options.hidden} wide, {options.layers} layers, "
        f"{llama(**TASK.sizes).num_parameters():,} weights; {options.batch} rows of each stream a step, "
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
