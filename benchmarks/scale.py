# ruff: noqa: T201
"""What large models and many runs take, on paper: memory, disk, and time from assumed speeds.

    python benchmarks/scale.py
    MEOW_DATA_DIR=DATA python benchmarks/scale.py --share 0.3 --gpus 1 4 32

Memory is what meow_lightning/resources/training_memory.py and inference_memory.py say, which were held against peaks on
a CPU and never on a GPU. Time is operations by the assumed share of the peak; for what is written also, if that is
longer, reading all weights once per token of all slots at the assumed share of the bandwidth. The operations are those
that the program foretells (Stage.requirements) for every result of a sweep's runs, each result once; results are
then handed to GPUs as these become free, one result a GPU, needs first. Not counted: frozen models' passes, MEMO points
during training, checkpoints, what the methods that babble write beyond the true answer's length. A model whose training
does not fit a GPU is counted all the same, as if several could work on it without loss.
"""

from __future__ import annotations

import argparse
import heapq
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from options import count

from meow_lightning.config import validation
from meow_lightning.config.schema import RunConfig
from meow_lightning.data.encoding import estimated_length
from meow_lightning.errors import UserError
from meow_lightning.pipeline.build import graph
from meow_lightning.pipeline.nodes.context import dataset_of
from meow_lightning.planning.requirements import Planner
from meow_lightning.resources.cost import disk_needed
from meow_lightning.resources.format import format_duration
from meow_lightning.resources.inference_memory import GPU_SHARE, GPU_SLOTS, inference_memory, largest_generation_batch
from meow_lightning.resources.training_memory import (
    GPU_SLACK,
    PROGRAM,
    Memory,
    ModelDims,
    dims_of,
    lora_parameters,
    training_memory,
)
from meow_lightning.stages.score import LETTERS
from meow_lightning.store.artifact import Artifact

ROOT = Path(__file__).resolve().parents[1]
GB = 10**9
SHARDS = 8
BF16, FP32 = 2, 4  # bytes
NOWHERE = "0" * 40  # stands for a revision that nobody has pinned: planning asks no hub for it


def llama(hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int) -> dict[str, Any]:
    """The config.json of a Llama-2 of some size."""
    return {
        "model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "intermediate_size": intermediate, "vocab_size": 32000,
    }  # fmt: skip


PHI = {
    "model_type": "phi", "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32,
    "intermediate_size": 8192, "vocab_size": 51200, "hidden_act": "gelu_new",
}  # fmt: skip
CONFIGS = {
    "1.3B (Phi-1.5)": PHI,
    "7B (Llama-2)": llama(4096, 32, 32, 32, 11008),
    "13B (Llama-2)": llama(5120, 40, 40, 40, 13824),
    "70B (Llama-2)": llama(8192, 80, 64, 8, 28672),
}
SHAPES = {name: dims_of(each, parameters=None) for name, each in CONFIGS.items()}
OF = {"phi15": "1.3B (Phi-1.5)", "llama2_7b_chat": "7B (Llama-2)"}  # models of the paper's table


class Done(NamedTuple):
    """How long a result takes, by what it is."""

    stage: str
    seconds: float
    needs: tuple[str, ...]


def sharded(shape: ModelDims, one: Memory, *, by: int) -> Memory:
    """What one of ``by`` GPUs holds where weights, gradients and optimizer states are shared out evenly.

    Activations and logits stay. Whole are, in float32, embeddings and head and two layers, of which one computes and
    the other is fetched. On paper: what trainer.strategy says of itself is what a plan shows.
    """
    ends = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    gathered = FP32 * (ends + 2 * (shape.parameters - ends) // shape.layers)
    return replace(
        one, weights=one.weights // by + gathered, gradients=one.gradients // by, optimizer=one.optimizer // by
    )


def training(shape: ModelDims, assumed: argparse.Namespace, **changes: Any) -> Memory:
    """A step of bf16 mixed training of all weights with activations recomputed, but for some changes."""
    whole = {
        "weight_bytes": FP32, "compute_bytes": BF16, "rows": assumed.rows, "tokens": assumed.tokens,
        "scored": assumed.scored, "gradient_checkpointing": True, "trained": shape.parameters, "slack": GPU_SLACK,
    }  # fmt: skip
    return training_memory(shape, **{**whole, **changes})


def adapters(shape: ModelDims, assumed: argparse.Namespace, *, rank: int) -> Memory:
    """A step with adapters on a frozen bf16 model."""
    return training(shape, assumed, weight_bytes=BF16, trained=lora_parameters(shape, rank=rank))


def memory_rows(assumed: argparse.Namespace) -> Iterator[list[str]]:
    """Memory of a training step, in GB per GPU, by model."""
    yield [
        "model", "weights", "all weights", "and a frozen model", "8-bit AdamW", "paged AdamW", "of main memory",
        "plain bf16", "LoRA 8", "LoRA 16", f"all, over {SHARDS}", f"8-bit, over {SHARDS}",
    ]  # fmt: skip
    for name, shape in SHAPES.items():
        full, eight, paged = (training(shape, assumed, optimizer=name) for name in ("adamw", "adamw8bit", "paged"))
        small = [adapters(shape, assumed, rank=rank).total for rank in (8, 16)]
        sizes = [
            full.total, full.total + BF16 * shape.parameters, eight.total, paged.total, paged.host,
            training(shape, assumed, weight_bytes=BF16).total, *small,
            *(sharded(shape, each, by=SHARDS).total for each in (full, eight)),
        ]  # fmt: skip
        yield [name, f"{shape.parameters / GB:.2f}e9", *(f"{size / GB:.1f}" for size in sizes)]


def part_rows(assumed: argparse.Namespace) -> Iterator[list[str]]:
    """Where the memory of training all weights goes, in GB."""
    yield ["model", "weights", "gradients", "optimizer", "logits", "activations recomputed", "activations kept"]
    for name, shape in SHAPES.items():
        full, kept = training(shape, assumed), training(shape, assumed, gradient_checkpointing=False)
        parts = [full.weights, full.gradients, full.optimizer, full.logits, full.activations, kept.activations]
        yield [name, *(f"{size / GB:.1f}" for size in parts)]


def slots_of(shape: ModelDims, assumed: argparse.Namespace, memory: float) -> int:
    """Prompts side by side in what a GPU has beside the weights."""
    free = int(GPU_SHARE * (memory - shape.parameters * BF16 - PROGRAM))
    return largest_generation_batch(
        shape, weight_bytes=BF16, tokens=assumed.tokens, generated=assumed.max_new_tokens, shared=True, available=free,
        most=GPU_SLOTS, slack=GPU_SLACK,
    )  # fmt: skip


def asking_rows(assumed: argparse.Namespace) -> Iterator[list[str]]:
    """Memory of asking a bf16 model with as many slots as a GPU holds."""
    heads = [f"slots in {memory:g} GB | GB taken" for memory in assumed.memory]
    yield ["model", "weights, GB", *heads]
    for name, shape in SHAPES.items():
        line = [name, f"{shape.parameters * BF16 / GB:.1f}"]
        for memory in assumed.memory:
            slots = slots_of(shape, assumed, memory * GB)
            need = inference_memory(
                shape, weight_bytes=BF16, rows=32, tokens=assumed.tokens, scored=assumed.scored, slots=slots,
                generated=assumed.max_new_tokens, shared=True, slack=GPU_SLACK,
            )  # fmt: skip
            line.append(f"{slots} | {need.total / GB:.1f}" if need.total <= memory * GB else "- | too large")
        yield line


def disk_rows(assumed: argparse.Namespace) -> Iterator[list[str]]:
    """Disk of the unlearned models of many runs, and of one training in passing."""
    yield ["model", "one model, GB", f"{assumed.runs} models, TB", "checkpoints in passing, GB", "with LoRA 16, GB",
           "adapters alone, GB", f"of {assumed.runs}, TB"]  # fmt: skip
    for name, shape in SHAPES.items():
        few = lora_parameters(shape, rank=16)
        passing = disk_needed(shape, weight_bytes=FP32, saved_bytes=0, trained=shape.parameters)
        lora = disk_needed(shape, weight_bytes=BF16, saved_bytes=0, trained=few)
        sizes = [BF16 * shape.parameters, passing, lora, FP32 * few]
        one, passing_gb, lora_gb, alone = (size / GB for size in sizes)
        yield [name, f"{one:.1f}", f"{one * assumed.runs / 1000:.1f}", f"{passing_gb:.0f}", f"{lora_gb:.0f}",
               f"{alone:.2f}", f"{alone * assumed.runs / 1000:.2f}"]  # fmt: skip


class OnPaper(Planner):
    """Sizes of models that are not here."""

    def shape(self, artifact: Artifact) -> ModelDims:
        """The sizes of the run's model."""
        return SHAPES[OF[self.model["name"]]]

    def written(self, artifact: Artifact) -> int:
        """Tokens that are generated: every answer, or the rest of every window."""
        if artifact.stage == "predict":
            return sum(estimated_length(fact.answer) for facts in self.dataset.evaluation().values() for fact in facts)
        step = self.options["memo"]["stride"] * LETTERS[self.options["memo"]["cut_unit"]]
        each = self.options["inversion"].get("candidates", 1) if "inverted" in artifact.needs else 1
        rests = (
            len(fact.answer) - at for fact in self.dataset.facts("forget") for at in range(0, len(fact.answer), step)
        )
        return each * sum(estimated_length("a" * rest) for rest in rests)


def seconds(sizes: OnPaper, artifact: Artifact, assumed: argparse.Namespace) -> float:
    """How long a result takes on one GPU."""
    flops = sizes.size(artifact).flops
    if not flops:
        return 0.0
    computing = flops / (assumed.share * assumed.peak * 1e12)
    if artifact.stage not in ("predict", "score"):
        return assumed.start + computing
    shape = sizes.shape(artifact)
    passes = sizes.written(artifact) / slots_of(shape, assumed, max(assumed.memory) * GB)
    reading = passes * shape.parameters * BF16 / (assumed.reading * assumed.bandwidth * 1e12)
    return assumed.start + max(computing, reading)


def runs(sweep: str) -> Iterator[RunConfig]:
    """The options of a sweep's runs."""
    params = OmegaConf.load(ROOT / "experiments" / "sweep" / f"{sweep}.yaml").hydra.sweeper.params
    validation.register()
    with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
        for values in product(*(str(value).split(",") for value in params.values())):
            words = [f"{name}={value}" for name, value in zip(params, values, strict=True)]
            plain = validation.resolved(compose("config", overrides=[*words, "logger=none"])).plain()
            for released in plain["model"]["released_checkpoints"].values():
                released["retain"] = {
                    split: name if "@" in name else f"{name}@{NOWHERE}" for split, name in released["retain"].items()
                }
            yield validation.run_config(plain)


def results(sweep: str, assumed: argparse.Namespace) -> tuple[int, dict[str, Done]]:
    """(runs, all that they make: each result once, needs first)."""
    found: dict[str, Done] = {}
    number = 0
    for config in runs(sweep):
        number += 1
        made = graph(config)
        dataset = dataset_of(config)[0]
        sizes = OnPaper(config.plain(), dataset=dataset, streams=made.streams, gpu=True, available=10**12)
        for each in made.goal("report"):
            if each.key not in found:
                needs = tuple(need.key for need in each.needs.values())
                found[each.key] = Done(each.stage, seconds(sizes, each, assumed), needs)
    return number, found


def ends(every: Mapping[str, Done], gpus: int) -> float:
    """When the last result is there: a GPU that is free takes the first one whose needs are there."""
    waits = {key: len(set(each.needs)) for key, each in every.items()}
    after: defaultdict[str, list[str]] = defaultdict(list)
    for key, each in every.items():
        for need in set(each.needs):
            after[need].append(key)
    order = {key: place for place, key in enumerate(every)}
    ready = [order[key] for key, left in waits.items() if not left]
    heapq.heapify(ready)
    keys, running, now = list(every), [], 0.0
    while ready or running:
        while ready and len(running) < gpus:
            key = keys[heapq.heappop(ready)]
            heapq.heappush(running, (now + every[key].seconds, key))
        now, key = heapq.heappop(running)
        for later in after[key]:
            waits[later] -= 1
            if not waits[later]:
                heapq.heappush(ready, order[later])
    return now


def time_rows(every: Mapping[str, Done], assumed: argparse.Namespace) -> Iterator[list[str]]:
    """The time of a table on some numbers of GPUs."""
    total = sum(each.seconds for each in every.values())
    yield ["GPUs", "time", "GPUs busy"]
    for gpus in assumed.gpus:
        last = ends(every, gpus)
        yield [str(gpus), format_duration(last), f"{total / last / gpus:.0%}"]


def stage_rows(every: Mapping[str, Done]) -> Iterator[list[str]]:
    """GPU-hours by stage."""
    yield ["stage", "results", "GPU-hours"]
    for stage in dict.fromkeys(each.stage for each in every.values()):
        spent = [each.seconds for each in every.values() if each.stage == stage]
        yield [stage, str(len(spent)), f"{sum(spent) / 3600:.1f}"]


def show(title: str, rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    first, *others = rows
    head = " | ".join(first)  # a heading may be of two columns
    lines = [head, " | ".join(["---"] * (head.count("|") + 1)), *(" | ".join(row) for row in others)]
    print(f"{title}\n", *(f"| {line} |" for line in lines), "", sep="\n", flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=count, default=8, help="rows of a training pass, all streams together")
    parser.add_argument("--tokens", type=count, default=200, help="tokens of the longest row")
    parser.add_argument("--scored", type=count, default=100, help="of these answer tokens")
    parser.add_argument("--max-new-tokens", type=count, default=200, help="most new tokens of a prompt")
    parser.add_argument(
        "--memory",
        type=float,
        nargs="+",
        default=[85.5, 150.7],
        help="10^9 bytes of a GPU; an H100's 80, an H200's 141",
    )
    parser.add_argument("--runs", type=count, default=1000)
    parser.add_argument("--sweep", default="paper_main_tofu", help="a file in experiments/sweep")
    parser.add_argument("--gpus", type=count, nargs="+", default=[1, 8, 64])
    parser.add_argument("--peak", type=float, default=989.0, help="TFLOP/s of a GPU in bf16 (an H100's or H200's)")
    parser.add_argument("--share", type=float, default=0.4, help="of it that is reached: an assumption")
    parser.add_argument("--bandwidth", type=float, default=4.8, help="TB/s of a GPU's memory (an H200's)")
    parser.add_argument("--reading", type=float, default=0.5, help="share of it that is reached: an assumption")
    parser.add_argument(
        "--start", type=float, default=60.0, help="seconds to start, load and save, per result: assumed"
    )
    assumed = parser.parse_args()
    for name in ("share", "reading"):
        if not 0 < getattr(assumed, name) <= 1:
            raise UserError(f"--{name} {getattr(assumed, name)} is a share: above 0, at most 1, such as 0.4")
    return assumed


def main() -> int:
    """0; prints the tables."""
    assumed = parse()
    said = f"{assumed.rows} rows of {assumed.tokens} tokens a pass, {assumed.scored} of them scored"
    show(f"Memory of a training step, GB per GPU; {said}, activations recomputed.", memory_rows(assumed))
    show("Where it goes when all weights are trained, GB.", part_rows(assumed))
    show(f"Asking a bf16 model: prompts side by side, {assumed.max_new_tokens} new tokens each.", asking_rows(assumed))
    show("Disk.", disk_rows(assumed))
    if "MEOW_DATA_DIR" not in os.environ:
        print("Time: the rows are TOFU's; say MEOW_DATA_DIR=FOLDER, where FOLDER/tofu holds its files.")
        return 0
    number, every = results(assumed.sweep, assumed)
    show(
        f"sweep={assumed.sweep}, {number} runs, {len(every)} results. Assumed, not measured: {assumed.share:.0%} of "
        f"{assumed.peak:g} TFLOP/s, {assumed.reading:.0%} of {assumed.bandwidth:g} TB/s, {assumed.start:g} s to start, "
        "load and save per result.",
        time_rows(every, assumed),
    )
    show("GPU-hours by stage.", stage_rows(every))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
