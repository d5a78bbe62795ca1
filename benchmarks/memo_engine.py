# ruff: noqa: T201
"""Greedy continuation of MEMO's windows on a CPU, side by side: the published way, the plain way, batches, the engine.

    OMP_NUM_THREADS=1 python benchmarks/memo_engine.py
    OMP_NUM_THREADS=1 python benchmarks/memo_engine.py --models wide --wide-facts 2 --generation-batch-size 64
    MEOW_DATA_DIR=DATA OMP_NUM_THREADS=1 python benchmarks/memo_engine.py --model FOLDER

published  batch 1, `generate` with 200 new tokens and no attention mask, three ROUGEs by a new scorer per window
plain      batch 1, `generate` with the run's budget and an attention mask: the texts to be equal to
sorted     `generate` in batches of 32 prompts of like length, padded on the left
engine     `continue_greedily`, with several numbers of slots

With `--loop-windows N` the first three run on N windows drawn at random, so that a model of a real size takes minutes;
seconds are then compared by window, and texts on the windows that both variants have continued.

Every variant runs in a process of its own that inherits model and prompts, so seconds and peak memory are its own; both
cover generation and scoring. The floor is the time that the linear layers' products take for the new tokens alone, at
the speed of a square matrix product measured in the same run; what windows share is counted for each of them, and
attention and prompts are not counted.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads would not survive a fork

import torch
import transformers
from common import (
    CANDIDATES,
    Asked,
    Shown,
    check,
    clock,
    codec_of,
    count,
    matmul_peak,
    most_memory,
    shown,
    texts,
    weights_per_token,
)
from differences import explain
from knowing import NAMES, STEPS, knowing, known
from rouge_score.rouge_scorer import RougeScorer
from transformers import AutoModelForCausalLM, AutoTokenizer

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.errors import UserError
from meow_lightning.generation.engine import Continuation, continue_greedily
from meow_lightning.memo.rouge import window_score

ROOT = Path(__file__).parents[1]
PUBLISHED_BUDGET = 200
BATCH = 32
VARIANTS = ("published", "plain", "sorted", "engine")
COLUMNS = (
    "variant", "slots", "CPU-s", "windows/s", "tokens/s", "x published", "x plain", "differ", "score off", "alone",
    "peak MiB", "of floor",
)  # fmt: skip
Pairs = Iterator[tuple[int, Continuation]]


class Case(NamedTuple):
    """What every variant works on; global, so that forked processes have it."""

    model: Any
    codec: PromptEncoder
    windows: list[Shown]
    budgets: list[int]
    looped: list[int]  # windows of the variants that are no engine
    device: str
    dtype: torch.dtype


class Outcome(NamedTuple):
    """What one variant gave, by window, and cost."""

    texts: dict[int, Continuation]
    scores: dict[int, float]
    seconds: float
    memory: float  # MiB more than before
    alone: int


CASE: Case


def continuation(new: list[int]) -> Continuation:
    """What was said, from new tokens that may go on with padding after their end."""
    at = next((at for at, token in enumerate(new) if token in CASE.codec.end_ids), None)
    return Continuation(tuple(new), None) if at is None else Continuation(tuple(new[:at]), new[at])


def published(model: Any) -> Pairs:
    """The published way: one by one, 200 new tokens, no attention mask."""
    for index in CASE.looped:
        prompt = CASE.windows[index].prompt
        ids = torch.tensor([prompt], device=CASE.device)
        room = CASE.codec.context - len(prompt)
        new = model.generate(ids, do_sample=False, max_new_tokens=min(PUBLISHED_BUDGET, room))
        yield index, continuation(new[0, len(prompt) :].tolist())


def batches(model: Any, size: int) -> Pairs:
    """`generate` with masks, padded on the left, like lengths together."""
    order = sorted(CASE.looped, key=lambda index: len(CASE.windows[index].prompt))
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        prompts = [CASE.windows[index].prompt for index in indices]
        width = len(prompts[-1])
        ids = [[CASE.codec.pad_id] * (width - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        rows = model.generate(
            torch.tensor(ids, device=CASE.device), attention_mask=torch.tensor(mask, device=CASE.device),
            do_sample=False, max_new_tokens=max(CASE.budgets[index] for index in indices),
            eos_token_id=sorted(CASE.codec.end_ids), pad_token_id=CASE.codec.pad_id,
        )[:, width:].tolist()  # fmt: skip
        for index, new in zip(indices, rows, strict=True):
            yield index, continuation(new).within(CASE.budgets[index])


def engine(model: Any, slots: int, alone: Callable[[int], None]) -> Pairs:
    """What this project does."""
    return continue_greedily(
        model, [window.prompt for window in CASE.windows], budgets=CASE.budgets, end_ids=CASE.codec.end_ids,
        pad_id=CASE.codec.pad_id, slots=slots, progress=None, alone=alone,
    )  # fmt: skip


def score(said: Continuation, label: str) -> float:
    """ROUGE-1 precision by the project's one scorer."""
    text = CASE.codec.decode(said.ids, keep_special=False)
    return window_score(text, label, rouge="rouge1", rouge_stat="precision")


def published_score(said: Continuation, label: str) -> float:
    """The same number the published way: three ROUGEs by a scorer that is made anew."""
    text = CASE.codec.decode(said.ids, keep_special=False)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    return float(scorer.score(label, text)["rouge1"].precision)


def run(name: str, slots: int) -> Outcome:
    """One variant, measured; runs in a process of its own."""
    model = CASE.model.to(CASE.device, CASE.dtype)
    alone: list[int] = []
    ways: dict[str, Callable[[], Pairs]] = {
        "published": lambda: published(model),
        "plain": lambda: batches(model, 1),
        "sorted": lambda: batches(model, BATCH),
        "engine": lambda: engine(model, slots, alone.append),
    }
    rate = published_score if name == "published" else score
    before, start = most_memory(CASE.device), clock(CASE.device)
    found: dict[int, tuple[Continuation, float]] = {}
    for index, said in ways[name]():
        found[index] = said, rate(said, CASE.windows[index].label)
    seconds = clock(CASE.device) - start
    memory = most_memory(CASE.device) - before
    texts_ = {index: said for index, (said, _) in found.items()}
    return Outcome(texts_, {index: rated for index, (_, rated) in found.items()}, seconds, memory, len(alone))


def forked(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function that runs in a process of its own, a copy of this one."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(work, *arguments).result()


def within_budget(found: Outcome) -> Outcome:
    """The same texts under the run's budget; those that it cuts are scored again."""
    cut = {index: said.within(CASE.budgets[index]) for index, said in found.texts.items()}
    scores = {
        index: found.scores[index] if new == found.texts[index] else score(new, CASE.windows[index].label)
        for index, new in cut.items()
    }
    return found._replace(texts=cut, scores=scores)


def tokens(found: Outcome) -> int:
    """All new tokens, those that end a text among them."""
    return sum(len(said.ids) + (said.end is not None) for said in found.texts.values())


def per_window(found: Outcome) -> float:
    """Seconds of a window on average."""
    return found.seconds / len(found.texts)


def row(name: str, slots: int, found: Outcome, outcomes: dict[str, Outcome], floor: float) -> tuple[str, list[int]]:
    """(the table's line, windows whose texts differ from the plain ones)."""
    cells = [name, str(slots), f"{found.seconds:.2f}", f"{len(found.texts) / found.seconds:.3g}"]
    cells.append(f"{tokens(found) / found.seconds:.0f}")
    for other in ("published", "plain"):
        cells.append(f"{per_window(outcomes[other]) / per_window(found):.2f}" if other in outcomes else "-")
    differ: list[int] = []
    if "plain" in outcomes:
        mine, plain = within_budget(found), outcomes["plain"]
        differ = [index for index, said in plain.texts.items() if mine.texts[index] != said]
        off = max(abs(mine.scores[index] - score_) for index, score_ in plain.scores.items())
        cells += [str(len(differ)), f"{off:.3g}"]
    else:
        cells += ["-", "-"]
    cells += [str(found.alone), f"{found.memory:.0f}", f"{floor / found.seconds:.1%}"]
    return f"| {' | '.join(cells)} |", differ


def table(options: argparse.Namespace) -> int:
    """The number of texts that the engine says differently; prints one model's table, line by line."""
    peak = forked(matmul_peak, options.device, CASE.dtype)
    flops = 2 * weights_per_token(CASE.model)
    columns = [name if options.device == "cpu" else name.removeprefix("CPU-") for name in COLUMNS]
    print(
        f"matmul peak {peak / 1e9:.0f} GFLOP/s, {flops / 1e6:.2f} MFLOP a token, budget {options.max_new_tokens} "
        f"(published {PUBLISHED_BUDGET})\n\n| {' | '.join(columns)} |\n|{'---|' * len(COLUMNS)}",
        flush=True,
    )
    sides = {"published": [1], "plain": [1], "sorted": [BATCH], "engine": options.generation_batch_size}
    outcomes: dict[str, Outcome] = {}
    wrong = 0
    apart: list[tuple[str, int, Continuation]] = []
    for name in [name for name in VARIANTS if name not in options.skip]:
        for slots in sides[name]:
            found = outcomes[name] = forked(run, name, slots)
            needed = tokens(within_budget(found))
            line, differ = row(name, slots, found, outcomes, needed * flops / peak)
            wrong += len(differ) if name == "engine" else 0
            print(line, flush=True)
            apart += [(f"{name} {slots}", index, within_budget(found).texts[index]) for index in differ]
    if apart:
        print("\ntexts unlike the plain ones, at their first other token, with the logits of a prompt alone:")
    for who, index, said in apart:
        plain = outcomes["plain"].texts[index]
        print(f"  {who}: {explain(CASE.model, CASE.codec, CASE.windows[index].prompt, plain, said)}", flush=True)
    return wrong


def learned(name: str, facts: list[Asked], words: list[Asked], options: argparse.Namespace) -> Path:
    """The folder of a model that knows the facts."""
    return knowing(name, facts, words=words, steps=options.steps or STEPS[name], folder=options.cache)


def sampled(total: int, *, most: int | None) -> list[int]:
    """Some of ``total`` windows, drawn by a fixed seed, in order; all of them without a limit."""
    return list(range(total)) if most is None else sorted(random.Random(0).sample(range(total), min(most, total)))


def prepare(folder: Path, facts: list[Asked], options: argparse.Namespace) -> Case:
    """A model, its windows, and everything imported that the variants need."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ends = model.generation_config.eos_token_id
    end_ids = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])
    codec = codec_of(tokenizer, context=model.config.max_position_embeddings, end_ids=end_ids)
    windows = shown(codec, facts, size=options.stride)
    looped = sampled(len(windows), most=options.loop_windows)
    budgets = [min(options.max_new_tokens, codec.context - len(window.prompt)) for window in windows]
    model.generate(torch.tensor([windows[0].prompt]), do_sample=False, max_new_tokens=1)
    window_score("a", "a", rouge="rouge1", rouge_stat="precision")
    print(
        f"\n{folder.name}: {model.num_parameters():,} weights, "
        f"{len(windows)} windows of {len(facts)} facts with {sum(len(fact.answers) for fact in facts)} answers"
        f"{'' if len(looped) == len(windows) else f', {len(looped)} of them in the loops'}; prompts of "
        f"{min(len(window.prompt) for window in windows)} to {max(len(window.prompt) for window in windows)} tokens; "
        f"it says {known(model, codec, facts):.0%} of the true ones word for word",
        flush=True,
    )
    return Case(model, codec, windows, budgets, looped, options.device, getattr(torch, options.dtype))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--model", type=Path, help="folder of a model and its tokenizer, instead of --models")
    parser.add_argument("--split", default="forget01", help="TOFU's file in MEOW_DATA_DIR, such as world_facts")
    parser.add_argument("--facts", type=count, default=40, help="facts, each with its true answer and wrong ones")
    parser.add_argument("--wrong-answers", type=int, default=CANDIDATES, choices=range(CANDIDATES + 1), help="per fact")
    parser.add_argument("--loop-windows", type=count, help="windows, drawn at random, of all variants but the engine")
    parser.add_argument("--wide-facts", type=count, default=4, help="facts of the wide model")
    parser.add_argument("--stride", type=count, default=5, help="characters between two cuts")
    parser.add_argument("--max-new-tokens", type=count, default=64, help="most new tokens of a window")
    parser.add_argument("--generation-batch-size", type=count, nargs="+", default=[64, 128, 256], help="of the engine")
    parser.add_argument("--skip", nargs="*", default=[], choices=VARIANTS)
    parser.add_argument("--device", default="cpu", help="cpu | cuda")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64", "bfloat16", "float16"])
    parser.add_argument("--steps", type=count, help="batches that a model is trained on; without: as many as it needs")
    parser.add_argument("--cache", type=Path, default=ROOT / "outputs" / "bench", help="where trained models are kept")
    options = parser.parse_args()
    if options.model and not options.model.is_dir():
        parser.error(f"--model {options.model}: no such folder")
    return options


def main() -> int:
    """1 where the engine says another text in full precision, else 0; prints the tables."""
    global CASE
    options = parse()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    forked(check, options.device)  # asked here, a GPU could not be used after a fork
    source, words = texts(options.split, candidates=options.wrong_answers)
    print(f"{source}; {options.device}, {options.dtype}, 1 thread, torch {torch.__version__}", flush=True)
    wrong = 0
    for name in ["own"] if options.model else options.models:
        facts = words[: options.wide_facts if name == "wide" else options.facts]
        folder = options.model or forked(learned, name, facts, words, options)
        CASE = prepare(folder, facts, options)
        wrong += table(options)
    return int(wrong > 0 and options.dtype in ("float32", "float64"))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
