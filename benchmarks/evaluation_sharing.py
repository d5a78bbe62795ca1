# ruff: noqa: T201
"""Scoring alone, three ways: rows padded, packed without padding, packed with prompts read once for their answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from common import clock, codec_of
from knowing import sizes
from memo_engine import forked

from meow_lightning.data.examples import references
from meow_lightning.data.prompting import PLAIN, PLAIN_PREFIX, PromptEncoder
from meow_lightning.evaluation import loglikelihood
from meow_lightning.models.tiny import llama
from meow_lightning.types import Encoded, Fact

PREFIX = 45  # tokens before every question, as many as Llama-3's chat puts there
MODELS = ("tiny", "wide")
WAYS = ("padded", "packed", "shared", "chosen")
COLUMNS = ("model", "before the question", "way", "CPU-s", "x padded", "x packed", "trunk", "x fewer", "head", "off")


class Scoring(NamedTuple):
    """What one way gave and cost."""

    logps: list[list[float]]
    seconds: float
    trunk: int
    head: int


def with_prefix(codec: PromptEncoder, text: str) -> PromptEncoder:
    """The codec of prompts that begin with so many tokens of a text."""
    ids = codec.tokenizer(text, add_special_tokens=False).input_ids[:PREFIX]
    template = codec.decode(ids, keep_special=False).replace("{", "(") + "\n" + PLAIN
    return PromptEncoder(
        tokenizer=codec.tokenizer, template=template, answer_prefix=PLAIN_PREFIX, system=None, date=None,
        context=codec.context + 2 * PREFIX, end_ids=frozenset(),
    )  # fmt: skip


def score(name: str, way: str, codec: PromptEncoder, rows: Sequence[Encoded], batch: int) -> Scoring:
    """One way, measured; runs in a process of its own."""
    torch.manual_seed(0)
    size = {**sizes(name), "context": codec.context}
    model = llama(vocab_size=len(codec.tokenizer), end_id=codec.end_id, pad_id=codec.pad_id, **size).eval()
    forced: dict[str, Any] = {
        "padded": ("supports_packing", lambda *_: False),
        "packed": ("is_worthwhile", lambda *_, **__: False),
        "shared": ("is_worthwhile", lambda *_, **__: True),
    }
    if way in forced:
        setattr(loglikelihood, *forced[way])
    read: Counter[str] = Counter()
    for part, module in (("trunk", model.model.embed_tokens), ("head", model.lm_head)):
        module.register_forward_pre_hook(lambda _, given, part=part: read.update({part: positions(part, given[0])}))
    best = float("inf")
    for _ in range(2):  # the first one is slow
        read.clear()
        start = clock("cpu")
        found = dict(loglikelihood.loglikelihoods(model, rows, pad_id=codec.pad_id, batch=batch, progress=None))
        best = min(best, clock("cpu") - start)
    return Scoring([list(found[i].logps) for i in range(len(rows))], best, read["trunk"], read["head"])


def positions(part: str, given: torch.Tensor) -> int:
    """Positions that a module is given: token ids, or vectors."""
    return given.numel() if part == "trunk" else given.shape[:-1].numel()


def sharing(codec: PromptEncoder, sets: dict[str, list[Fact]], *, size: int, batch: int) -> float:
    """The largest relative difference of a row's mean log-probability from the padded way; prints the second table.

    Args:
        codec: Of the prompts without a prefix.
        sets: What is scored.
        size: Questions of every set.
        batch: Rows of a pass.
    """
    facts = list(chain(*(each[:size] for each in sets.values())))
    print(f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    text = " ".join(fact.answer for fact in facts)
    off = 0.0
    for name in MODELS:
        for said, its in (("nothing", codec_of(codec.tokenizer, context=codec.context, end_ids=frozenset())),
                          (f"{PREFIX} tokens", with_prefix(codec, text))):  # fmt: skip
            rows = [its.encode(*each) for fact in facts for each in references(fact)]
            found: dict[str, Scoring] = {}
            for way in WAYS:
                mine = found[way] = forked(score, name, way, its, rows, batch)
                apart = max(map(difference, mine.logps, found["padded"].logps))
                off = max(off, apart)
                cells = [name, said, way, f"{mine.seconds:.2f}"]
                cells += [f"{found[other].seconds / mine.seconds:.2f}" if other in found else "-" for other in WAYS[:2]]
                cells += [str(mine.trunk), f"{found['padded'].trunk / mine.trunk:.2f}", str(mine.head), f"{apart:.1e}"]
                print(f"| {' | '.join(cells)} |", flush=True)
    return off


def difference(mine: list[float], other: list[float]) -> float:
    """How far two rows' log-probabilities are apart, as a share of the second."""
    return abs(sum(mine) - sum(other)) / (abs(sum(other)) or 1.0)
