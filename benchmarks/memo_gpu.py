# ruff: noqa: T201
"""MEMO's engine on a GPU, with random weights of the sizes of Phi-1.5 and Llama-2-7B and windows like TOFU forget05's.

    MEOW_DATA_DIR=DATA python benchmarks/memo_gpu.py --facts 4
    python benchmarks/memo_gpu.py --like tiny --device cpu --dtype float32 --facts 1

Random weights know no text and no end: every window is said to its budget, by default as many tokens as its text has
left, which is what a model says that holds the text. They also never say what a prompt goes on with, so that no window
walks a part of its way inside another one's prompt, as those of a model that holds the text do.

`of bandwidth` is (bytes of the linear layers' weights x times that the model was called) / seconds, as a share of the
bytes that copying reads and writes per second.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import Any, NamedTuple

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from common import Asked, Shown, check, clock, codec_of, copy_peak, count, most_memory, shown, texts, weights_per_token
from transformers import AutoModelForCausalLM, LlamaConfig, PhiConfig, PretrainedConfig

from meow_lightning.errors import UserError
from meow_lightning.generation.engine import continue_greedily
from meow_lightning.models.tiny import tokenizer_from

VOCABULARY = 2048  # of the tokenizer: one and a half tokens per word, as Llama's has on such texts
FORGET05 = 25_948  # windows of the published answers and candidates of TOFU forget05, five characters apart
COPIED = {"cuda": 2**30, "cpu": 2**27}  # bytes, more than any cache
LIKE: dict[str, Any] = {
    "phi15": partial(
        PhiConfig, vocab_size=51200, hidden_size=2048, intermediate_size=8192, num_hidden_layers=24,
        num_attention_heads=32, max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
    ),
    "llama2_7b": partial(
        LlamaConfig, vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
        num_attention_heads=32, max_position_embeddings=4096,
    ),
    "tiny": partial(
        LlamaConfig, vocab_size=VOCABULARY, hidden_size=128, intermediate_size=384, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=512,
    ),
}  # fmt: skip
COLUMNS = ("like", "slots", "windows", "s", "windows/s", "tokens/s", "calls", "of bandwidth", "peak MiB", "forget05")


class Found(NamedTuple):
    """What one run of the engine gave and cost."""

    seconds: float
    tokens: int
    calls: int  # of the model
    memory: float  # MiB, the weights included on a GPU


def random_model(config: PretrainedConfig, *, device: str, dtype: torch.dtype) -> Any:
    """A model of random weights, made where it is used."""
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def spread(facts: list[Asked], most: int) -> list[Asked]:
    """That many facts, evenly spread."""
    found = min(most, len(facts))
    return [facts[index * len(facts) // found] for index in range(found)]


def budgets_of(windows: list[Shown], *, budget: str, context: int) -> list[int]:
    """The most new tokens of every window: as many as its text has left, or the same number for all."""
    wanted = [window.rest if budget == "remainder" else int(budget) for window in windows]
    return [min(most, context - len(window.prompt)) for most, window in zip(wanted, windows, strict=True)]


def measured(model: Any, windows: list[Shown], *, budgets: list[int], slots: int, device: str) -> Found:
    """One run over all windows, with a clock that waits for the device."""
    calls = 0

    def called(*_: Any) -> None:
        nonlocal calls
        calls += 1

    hook = model.register_forward_pre_hook(called)
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    start = clock(device)
    pairs = continue_greedily(
        model, [window.prompt for window in windows], budgets=budgets, end_ids=frozenset(), pad_id=0, slots=slots,
        progress=None,
    )  # fmt: skip
    tokens = sum(len(said.ids) for _, said in pairs)
    seconds = clock(device) - start
    hook.remove()
    return Found(seconds, tokens, calls, most_memory(device))


def table(name: str, facts: list[Asked], tokenizer: Any, options: argparse.Namespace) -> None:
    """Print one model's lines."""
    dtype = getattr(torch, options.dtype)
    model = random_model(LIKE[name](), device=options.device, dtype=dtype)
    codec = codec_of(tokenizer, context=model.config.max_position_embeddings, end_ids=frozenset())
    windows = shown(codec, facts, size=options.stride)
    budgets = budgets_of(windows, budget=options.max_new_tokens, context=codec.context)
    read = weights_per_token(model) * dtype.itemsize
    bandwidth = copy_peak(options.device, size=COPIED[options.device.partition(":")[0]])
    warm = windows[: 2 * options.generation_batch_size[0]]
    measured(model, warm, budgets=[2] * len(warm), slots=options.generation_batch_size[0], device=options.device)
    for slots in options.generation_batch_size:
        found = measured(model, windows, budgets=budgets, slots=slots, device=options.device)
        speed = len(windows) / found.seconds
        cells = [
            name, str(slots), str(len(windows)), f"{found.seconds:.2f}", f"{speed:.1f}",
            f"{found.tokens / found.seconds:.0f}", str(found.calls),
            f"{read * found.calls / found.seconds / bandwidth:.1%}",
            f"{found.memory:.0f}", f"{FORGET05 / speed / 60:.1f} min",
        ]  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)


def budget(text: str) -> str:
    """``remainder`` or a whole number from 1, as given."""
    return text if text == "remainder" else str(count(text))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--like", nargs="+", default=["phi15", "llama2_7b"], choices=list(LIKE))
    parser.add_argument("--facts", type=count, default=8, help="facts, each with its true answer and 4 wrong ones")
    parser.add_argument("--stride", type=count, default=5, help="characters between two cuts")
    parser.add_argument(
        "--max-new-tokens", type=budget, default="remainder", help="remainder | most new tokens of a window"
    )
    parser.add_argument("--generation-batch-size", type=count, nargs="+", default=[64, 128, 256])
    parser.add_argument("--device", default="cuda", help="cuda | cpu")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16", "float16"])
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    options = parse()
    check(options.device)
    source, all_facts = texts("forget05")
    facts = spread(all_facts, options.facts)
    tokenizer = tokenizer_from([f"{question} {answers[0]}" for question, answers in all_facts], vocab_size=VOCABULARY)
    where = torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else options.device
    print(
        f"{source}; {len(facts)} facts, budget {options.max_new_tokens}, random {options.dtype} weights, {where}, "
        f"torch {torch.__version__}\n\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}",
        flush=True,
    )
    for name in options.like:
        table(name, facts, tokenizer, options)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
