"""What the benchmarks of MEMO's engine share: texts, windows, clocks, and what the machine could do at best."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from options import count as count

from meow_lightning.data.fictional import Fictional
from meow_lightning.data.jsonl_reader import read_entries
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.errors import UserError

CANDIDATES = 4
MIB = 2**20
BEST_OF = 5


class Asked(NamedTuple):
    """A question and its answers: the true one first, then wrong ones."""

    question: str
    answers: tuple[str, ...]


class Shown(NamedTuple):
    """One window: what a model is shown, what is left of the text, and the tokens that the rest has."""

    prompt: list[int]
    label: str
    rest: int


def texts(split: str, *, candidates: int = CANDIDATES) -> tuple[str, list[Asked]]:
    """(where they are from, all facts): TOFU's where MEOW_DATA_DIR names a folder, else those of this project.

    Args:
        split: Name of TOFU's file of questions with wrong answers, without ``_perturbed.json``.
        candidates: Most wrong answers of a fact, from 0.
    """
    if folder := os.environ.get("MEOW_DATA_DIR"):
        path = Path(folder) / "tofu" / f"{split}_perturbed.json"
        rows = [row for _, row in read_entries(path, option="MEOW_DATA_DIR", holds="questions with wrong answers")]
        wrong = [row["perturbed_answer"][:candidates] for row in rows]
        found = [Asked(row["question"], (row["answer"], *each)) for row, each in zip(rows, wrong, strict=True)]
        return f"TOFU {split}, wrong answers by TOFU", found
    own = Fictional(split="forget10", authors=80, candidates=CANDIDATES, phrasings=1, retain_eval=1, seed=0)
    facts = [*own.facts("forget"), *own.facts("retain")]
    found = [Asked(fact.question, (fact.answer, *fact.inverted[:candidates])) for fact in facts]
    return "this project's fictional authors", found


def codec_of(tokenizer: Any, *, context: int, end_ids: frozenset[int]) -> PromptEncoder:
    """The codec of the tokenizer's chat template; of a plain question-and-answer prompt where it has none."""
    return PromptEncoder(
        tokenizer=tokenizer,
        template="auto",
        answer_prefix="",
        system=None,
        date=None,
        context=context,
        end_ids=end_ids,
    )


def shown(codec: PromptEncoder, facts: list[Asked], *, size: int) -> list[Shown]:
    """All windows of all answers, cut after 1, 1 + size, 1 + 2 * size, ... characters."""
    found = []
    for question, answers in facts:
        for answer in answers:
            whole = len(codec.partial_ids(question, answer))
            for at in range(1, len(answer), size):
                prompt = codec.partial_ids(question, answer[:at])
                found.append(Shown(prompt, answer[at:], max(1, whole - len(prompt))))
    return found


def weights_per_token(model: torch.nn.Module) -> int:
    """Weights that multiply every token: the linear layers, the head among them, and not the embedding table."""
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    return sum(module.weight.numel() for module in linear)


def check(device: str) -> None:
    """Refuse a GPU that is not there.

    Raises:
        UserError: No CUDA device.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device={device}: this machine shows no CUDA device; say --device cpu, or go where one is")


def clock(device: str) -> float:
    """Seconds: of this process on a CPU; on a GPU those that pass, once all its work is done."""
    if not device.startswith("cuda"):
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def most_memory(device: str) -> float:
    """The most memory that this process has held so far, in MiB: on a GPU its tensors."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def matmul_peak(device: str, dtype: torch.dtype) -> float:
    """FLOPs per second of a square matrix product that is large enough to fill the device, the best of several."""
    size = 8192 if device.startswith("cuda") else 1024
    left, right = torch.randn(2, size, size, device=device).to(dtype)
    return 2 * size**3 / _fastest(lambda: left @ right, device)


def copy_peak(device: str, *, size: int) -> float:
    """Bytes per second that are read and written while ``size`` bytes are copied, the best of several."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / _fastest(lambda: target.copy_(source), device)


def _fastest(work: Any, device: str) -> float:
    best = float("inf")
    for _ in range(1 + BEST_OF):  # the first one is slow and never the best
        start = clock(device)
        for _ in range(BEST_OF):
            work()
        best = min(best, (clock(device) - start) / BEST_OF)
    return best
