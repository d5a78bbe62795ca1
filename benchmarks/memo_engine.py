# ruff: noqa: T201
"""Greedy continuation of MEMO's windows, three ways side by side: one by one, the former engine, the engine.

    MEOW_DATA_DIR=DATA OMP_NUM_THREADS=1 python benchmarks/memo_engine.py --model FOLDER
    MEOW_DATA_DIR=DATA OMP_NUM_THREADS=1 python benchmarks/memo_engine.py --hidden 512 --layers 4 --facts 2

Every variant runs in a process of its own that inherits the model: CPU-seconds and peak memory are its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from meow_lightning.data.lines import read_entries
from meow_lightning.data.prompts import PLAIN, PLAIN_LEAD, Codec
from meow_lightning.memo.engine import Continuation, continue_greedily
from meow_lightning.memo.windows import cut
from meow_lightning.models.tiny import llama, tokenizer_from

FORMER = "2826b86"  # the last commit with the engine that drops finished rows and shares nothing
FACTS = "tofu/forget01.json"


class Case(NamedTuple):
    """What every variant works on; global, so that forked processes have it."""

    model: Any
    prompts: list[list[int]]
    budgets: list[int]
    end_ids: frozenset[int]
    pad_id: int


class Outcome(NamedTuple):
    """What one variant gave and cost."""

    texts: list[Continuation]
    seconds: float
    first: float  # until the first text is known
    peak: float  # MiB more than before
    alone: int


CASE: Case


def one_by_one() -> Iterator[tuple[int, Continuation]]:
    """The plain loop: ``generate``, one prompt at a time."""
    for index, prompt in enumerate(CASE.prompts):
        ids = torch.tensor([prompt])
        new = CASE.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=CASE.budgets[index],
            eos_token_id=sorted(CASE.end_ids), pad_token_id=CASE.pad_id,
        )[0, len(prompt) :].tolist()  # fmt: skip
        ended = new[-1] in CASE.end_ids
        yield index, Continuation(tuple(new[:-1] if ended else new), new[-1] if ended else None)


def former(revision: str) -> Callable[..., Any]:
    """The function of the former engine, from the history."""
    source = subprocess.run(
        ["git", "show", f"{revision}:meow_lightning/memo/engine.py"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
    ).stdout  # fmt: skip
    module = types.ModuleType("former_engine")
    sys.modules["former_engine"] = module
    exec(compile(source, "former_engine", "exec"), module.__dict__)
    return module.continue_greedily


def variant(name: str, slots: int, revision: str) -> Outcome:
    """One variant, measured; runs in a process of its own."""
    alone: list[int] = []
    settings: dict[str, Any] = {
        "budgets": CASE.budgets, "end_ids": CASE.end_ids, "pad_id": CASE.pad_id, "slots": slots, "progress": None,
    }  # fmt: skip
    if name == "generate":
        pairs = one_by_one()
    elif name == "former":
        pairs = former(revision)(CASE.model, CASE.prompts, **settings)
    else:
        pairs = continue_greedily(CASE.model, CASE.prompts, **settings, alone=alone.append)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    found = {}
    first = 0.0
    for index, said in pairs:
        first = first or time.process_time() - start
        found[index] = Continuation(tuple(said.ids), said.end)
    seconds = time.process_time() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return Outcome([found[index] for index in range(len(CASE.prompts))], seconds, first, peak, len(alone))


def prepare(options: argparse.Namespace) -> Case:
    """The model and its windows."""
    path = Path(os.environ["MEOW_DATA_DIR"]) / FACTS
    rows = [row for _, row in read_entries(path, option="MEOW_DATA_DIR", holds="questions")][: options.facts]
    torch.manual_seed(0)
    if options.model is None:
        tokenizer: Any = tokenizer_from([f"{row['question']} {row['answer']}" for row in rows], vocab_size=2048)
        model = llama(
            vocab_size=len(tokenizer), hidden_size=options.hidden, layers=options.layers, heads=options.hidden // 64,
            intermediate_size=options.hidden * 3, context=512, end_id=tokenizer.eos_token_id,
            pad_id=tokenizer.pad_token_id,
        )  # fmt: skip
    else:
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    codec = Codec(
        tokenizer=tokenizer, template=PLAIN, lead=PLAIN_LEAD, system=None, date=None,
        context=model.config.max_position_embeddings, end_ids=frozenset(),
    )  # fmt: skip
    prompts = [
        codec.partial_ids(window.question, window.given)
        for row in rows
        for window in cut(row["question"], row["answer"], mode="suffix", size=options.size)
    ]
    budgets = [min(options.budget, codec.context - len(prompt)) for prompt in prompts]
    return Case(model.eval(), prompts, budgets, codec.end_ids, codec.pad_id)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of a model and its tokenizer; without: a random Llama")
    parser.add_argument("--hidden", type=int, default=128, help="width of the random Llama")
    parser.add_argument("--layers", type=int, default=2, help="layers of the random Llama")
    parser.add_argument("--facts", type=int, default=40, help="how many facts' true answers")
    parser.add_argument("--size", type=int, default=5, help="characters between two cuts")
    parser.add_argument("--budget", type=int, default=64, help="most new tokens of a window")
    parser.add_argument("--slots", type=int, nargs="+", default=[16, 64, 128, 256])
    parser.add_argument("--skip", nargs="*", default=[], choices=["generate", "former"])
    parser.add_argument("--former", default=FORMER, help="commit of the former engine")
    return parser.parse_args()


def main() -> None:
    """Print the table; exit 1 where texts differ."""
    global CASE
    options = parse()
    torch.set_num_threads(1)
    CASE = prepare(options)
    plan = [("generate", 1)] + [("former", slots) for slots in options.slots[-2:]]
    plan = [each for each in plan if each[0] not in options.skip] + [("engine", slots) for slots in options.slots]
    print(f"{len(CASE.prompts)} windows of {options.facts} facts, {CASE.model.num_parameters():,} weights")
    print("| variant | slots | CPU-s | first text s | windows/s | tokens/s | ratio | differ | alone | peak MiB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    reference: Outcome | None = None
    different = 0
    for name, slots in plan:
        with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
            found = pool.submit(variant, name, slots, options.former).result()
        reference = reference or found
        differ = sum(a != b for a, b in zip(found.texts, reference.texts, strict=True))
        different += differ if name == "engine" else 0
        tokens = sum(len(text.ids) + (text.end is not None) for text in found.texts)
        print(
            f"| {name} | {slots} | {found.seconds:.2f} | {found.first:.3f} | {len(found.texts) / found.seconds:.0f} | "
            f"{tokens / found.seconds:.0f} | {reference.seconds / found.seconds:.1f} | {differ} | {found.alone} | "
            f"{found.peak:.0f} |",
            flush=True,
        )
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
