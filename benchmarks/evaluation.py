# ruff: noqa: T201
"""TOFU's evaluation of a small model on a CPU, side by side and with equal numbers: two straightforward ways and ours.

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py
    MEOW_DATA_DIR=DATA OMP_NUM_THREADS=1 python benchmarks/evaluation.py --split forget01 --repeats 3

published  rows padded to 200 tokens, in batches of 30; `generate` to 200 tokens with the prompt
plain      rows padded to the longest of their batch of 32; `generate` with 200 new tokens
ours       `meow_lightning.evaluation.predict.predict`, in the chunks of the stage

The straightforward ways take rows in file order, give labels to the model, look at logits at all positions and make a
pass per metric: probability, paraphrases, wrong answers, of the forget set Min-K% and extraction strength besides; the
published way scores the true answers among options once more. All are held against the plain way: a text that differs,
or a number by more than 1e-4 of itself, is an error, unless the two best logits lie within 1e-4 (`ties`, and the plain
text counts). Numbers that only ours has (extraction strength of the other sets) are left out. Texts are compared as far
as both budgets go.

The model knows the forget set word for word, so its answers end. Every way runs in a process of its own. The floor is
the time that the linear layers' products take for every prompt once, every answer's tokens and every generated token,
the head at what is scored or said, at the speed of a square matrix product measured in the same run.

Then the second table: scoring alone, padded, packed (no padding), and with prompts read once for all their answers.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from statistics import median_low
from typing import Any, NamedTuple

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads would not survive a fork

import torch
import transformers
from common import Asked, check, clock, codec_of, count, matmul_peak, most_memory, weights_per_token
from evaluation_numbers import held_against, numbers
from evaluation_sharing import sharing
from evaluation_ways import WAYS, Sets, generated, row_of, scored
from knowing import knowing, known
from memo_engine import forked
from transformers import AutoModelForCausalLM, AutoTokenizer

from meow_lightning.data.fictional import Fictional
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.data.tofu import Tofu
from meow_lightning.distributed import chunk_groups
from meow_lightning.errors import UserError
from meow_lightning.evaluation import predict as engine
from meow_lightning.generation.batching import Continuation
from meow_lightning.stages.predict import CHUNK
from meow_lightning.types import AnswerRow, Fact

ROOT = Path(__file__).parents[1]
ALLOWED = 1e-4  # relative difference of a number
NAMES = (*WAYS, "ours")
COLUMNS = (
    "way", "CPU-s", "scoring", "generation", "numbers", "x published", "x plain", "trunk", "head", "generation's",
    "peak MiB", "of floor", "texts differ", "ties", "off",
)  # fmt: skip


class Case(NamedTuple):
    """What all ways work on; global, so that forked processes have it."""

    model: Any
    codec: PromptEncoder
    sets: Sets
    options: argparse.Namespace


class Outcome(NamedTuple):
    """What one way gave and cost."""

    rows: list[AnswerRow]
    budgets: list[int]
    values: dict[str, float]
    seconds: dict[str, float]  # of scoring, generation, numbers
    read: dict[str, int]  # positions of scoring and generation, in layers and head
    memory: float  # MiB more than before

    @property
    def total(self) -> float:
        """CPU-seconds from the questions to the numbers."""
        return sum(self.seconds.values())


class Meter:
    """Seconds and positions by what they are for."""

    def __init__(self, model: Any) -> None:
        self.seconds = dict.fromkeys(COLUMNS[2:5], 0.0)
        self.read: Counter[str] = Counter()
        self._now = "scoring"
        model.base_model.register_forward_pre_hook(self._layers, with_kwargs=True)
        model.get_output_embeddings().register_forward_pre_hook(self._head)

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Within it, all that is spent is for this; what is spent around it is not counted twice."""
        before, self._now = self._now, what
        start, inner = clock("cpu"), sum(self.seconds.values())
        yield
        self.seconds[what] += clock("cpu") - start - (sum(self.seconds.values()) - inner)
        self._now = before

    def _layers(self, _: Any, __: Any, given: dict[str, Any]) -> None:
        self.read[self._now] += given["input_ids"].numel()

    def _head(self, _: Any, given: tuple[torch.Tensor]) -> None:
        self.read[f"{self._now}, head"] += given[0].shape[:-1].numel()


CASE: Case


def straight(name: str, meter: Meter) -> tuple[list[AnswerRow], list[int]]:
    """All rows and budgets, a straightforward way."""
    rows, budgets = [], []
    for of, facts in CASE.sets.items():
        with meter.of("scoring"):
            likely = scored(CASE.model, CASE.codec, of, facts, WAYS[name])
        with meter.of("generation"):
            texts = generated(CASE.model, CASE.codec, facts, WAYS[name], budget=CASE.options.max_new_tokens)
        for index, (fact, (text, budget), each) in enumerate(zip(facts, texts, likely, strict=True)):
            rows.append(row_of(of, index, fact, text, CASE.codec, each))
            budgets.append(budget)
    return rows, budgets


def ours(meter: Meter) -> tuple[list[AnswerRow], list[int]]:
    """All rows and budgets, as the stage makes them."""
    options, codec, generate = CASE.options, CASE.codec, engine.continue_greedily

    def watched(*arguments: Any, **named: Any) -> Iterator[tuple[int, Continuation]]:
        with meter.of("generation"):
            return iter(list(generate(*arguments, **named)))

    engine.continue_greedily = watched
    rows: list[AnswerRow] = []
    with meter.of("scoring"):
        for lot in chunk_groups([[each] for each in asked()], size=lambda _: 1, minimum=CHUNK):
            rows += engine.predict(
                CASE.model, codec, lot, max_new_tokens=options.max_new_tokens, batch=options.eval_batch_size,
                slots=options.generation_batch_size, gradients=(), progress=None,
            )  # fmt: skip
    return rows, [min(options.max_new_tokens, codec.context - len(codec.prompt_ids(row.question))) for row in rows]


def asked() -> list[tuple[str, int, Fact]]:
    """All questions, set after set."""
    return [(name, index, fact) for name, facts in CASE.sets.items() for index, fact in enumerate(facts)]


def run(name: str) -> Outcome:
    """One way, measured; runs in a process of its own."""
    meter, before = Meter(CASE.model), most_memory("cpu")
    rows, budgets = ours(meter) if name == "ours" else straight(name, meter)
    with meter.of("numbers"):
        values = numbers(rows)
    return Outcome(rows, budgets, values, meter.seconds, dict(meter.read), most_memory("cpu") - before)


def floor_flops(rows: list[AnswerRow]) -> float:
    """Operations of the linear layers: prompts and answers once in the layers, what is scored or said in the head."""
    head = CASE.model.get_output_embeddings().weight.numel()
    body = weights_per_token(CASE.model) - head
    flops = 0
    for row in rows:
        texts = [row.truth, *([row.paraphrase] if row.paraphrase else []), *row.perturbed]
        scored_ = sum(len(each.ids) for each in texts)
        said = len(row.generated) + (row.stop == "end")
        read = len(CASE.codec.prompt_ids(row.question)) + scored_ - len(texts) + len(row.generated)
        flops += 2 * (body * read + head * (scored_ + said))
    return flops


def pairs(found: Outcome) -> list[tuple[AnswerRow, int]]:
    """Every row with the budget that its text had."""
    return list(zip(found.rows, found.budgets, strict=True))


def table(peak: float) -> bool:
    """Whether every way gives the plain texts and numbers; prints a line for each."""
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    repeats: dict[str, list[Outcome]] = {name: [] for name in NAMES}
    for _ in range(CASE.options.repeats):
        for name in NAMES:
            repeats[name].append(forked(run, name))
    found = {}
    for name, all_ in repeats.items():
        middle = median_low(each.total for each in all_)
        found[name] = next(each for each in all_ if each.total == middle)
    right = True
    floor = floor_flops(found["plain"].rows) / peak
    for name, mine in found.items():
        differ, ties, off = held_against(CASE.model, CASE.codec, pairs(mine), pairs(found["plain"]))
        right &= differ == 0 and off <= ALLOWED
        cells = [name, f"{mine.total:.2f}", *(f"{mine.seconds[part]:.2f}" for part in COLUMNS[2:5])]
        cells += [f"{found[other].total / mine.total:.2f}" for other in ("published", "plain")]
        cells += [str(mine.read[part]) for part in ("scoring", "scoring, head", "generation")]
        cells += [f"{mine.memory:.0f}", f"{floor / mine.total:.1%}", str(differ), str(ties), f"{off:.1e}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    return right


def read_sets(options: argparse.Namespace) -> tuple[str, Sets]:
    """(where the texts are from, TOFU's four sets): TOFU where MEOW_DATA_DIR names a folder, else this project's."""
    if folder := os.environ.get("MEOW_DATA_DIR"):
        source = f"TOFU {options.split}"
        data: Any = Tofu(
            split=options.split, folder=str(Path(folder) / "tofu"), hub="", retain_authors=None, questions="trained"
        )
    else:
        source = "this project's fictional authors"
        data = Fictional(split=options.split, authors=80, candidates=1, phrasings=1, retain_eval=160, seed=0)
    sets = {name: facts[: options.questions] for name, facts in data.evaluation().items() if name != "holdout"}
    return source, sets


def learned(sets: Sets, options: argparse.Namespace) -> Path:
    """The folder of a model that knows the forget set."""
    words = [Asked(fact.question, (fact.answer,)) for fact in chain(*sets.values())]
    facts = words[: len(sets["forget"])]
    steps = options.steps or max(250, 15 * len(facts) // 4)  # 30 epochs of batches of 8
    return knowing("tiny", facts, words=words, steps=steps, folder=options.cache)


def prepare(folder: Path, sets: Sets, options: argparse.Namespace) -> Case:
    """The model, and everything imported that the ways need."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    codec = codec_of(tokenizer, context=model.config.max_position_embeddings, end_ids=frozenset())
    model.generate(torch.tensor([codec.prompt_ids("Who?")]), do_sample=False, max_new_tokens=1)
    return Case(model, codec, sets, options)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="forget10", choices=["forget01", "forget05", "forget10"])
    parser.add_argument("--questions", type=count, help="of every set, the first ones; without: all")
    parser.add_argument(
        "--max-new-tokens", type=count, default=200, help="most new tokens of an answer, but for published"
    )
    parser.add_argument(
        "--eval-batch-size", type=count, default=64, help="rows of a pass of ours (trainer.eval_batch_size)"
    )
    parser.add_argument(
        "--generation-batch-size", type=count, default=256, help="prompts that ours continues side by side"
    )
    parser.add_argument("--repeats", type=count, default=1, help="the ways take turns; the median counts")
    parser.add_argument("--steps", type=count, help="batches that the model is trained on; without: 30 epochs")
    parser.add_argument("--wide", type=count, default=12, help="questions of every set in the second table")
    parser.add_argument("--cache", type=Path, default=ROOT / "outputs" / "bench", help="where trained models are kept")
    return parser.parse_args()


def main() -> int:
    """1 where a way gives other texts or numbers than the plain one, else 0; prints the tables."""
    global CASE
    options = parse()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    check("cpu")
    source, sets = read_sets(options)
    CASE = prepare(forked(learned, sets, options), sets, options)
    peak = forked(matmul_peak, "cpu", torch.float32)
    facts = [Asked(fact.question, (fact.answer,)) for fact in sets["forget"]]
    print(
        f"{source}: {', '.join(f'{len(each)} {name}' for name, each in sets.items())}; "
        f"a Llama of {CASE.model.num_parameters():,} weights that says "
        f"{known(CASE.model, CASE.codec, facts):.0%} of the forget set word for word; float32, 1 thread, "
        f"torch {torch.__version__}, matmul peak {peak / 1e9:.0f} GFLOP/s, load {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores\n",
        flush=True,
    )
    right = table(peak)
    off = sharing(CASE.codec, sets, size=options.wide, batch=options.eval_batch_size)
    if not right:
        print(f"error: texts differ, or numbers by more than {ALLOWED:.0e}", file=sys.stderr)
    if off > ALLOWED:
        print(f"error: packed rows are {off:.1e} less or more likely, allowed: {ALLOWED:.0e}", file=sys.stderr)
    return int(not right or off > ALLOWED)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
