"""CPU-seconds of open-unlearning's evaluation and steps beside ours: the same models and rows, taking turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from beside_losses import PAIRS, ours_of_pair, theirs_of_pair, trainers
from open_unlearning_peer import Theirs

from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.evaluation.predict import predict
from meow_lightning.evaluation.protocols.predict import predict_under_protocol
from meow_lightning.evaluation.protocols.registry import generation_batches
from meow_lightning.types import AnswerRow, Encoded, Fact

GRADIENTS = ("forget", "holdout")
NEW_TOKENS, SLOTS, BATCH = 200, 64, 8
Work = Callable[[], object]


def ratios(
    theirs: Theirs, target: Any, start: Any, codec: PromptEncoder, sets: Mapping[str, Sequence[Fact]],
    rows: Mapping[str, list[Encoded]], batches: Mapping[str, Any], *, rounds: int,
) -> list[str]:  # fmt: skip
    """Measure and return the lines of a table; ``x`` is the median over rounds of their time over ours, with its span.

    The evaluation is everything that both compute on one model: likelihoods, greedy answers and gradients. A step is a
    forward and a backward pass, without the optimizer, which both share. The log-probabilities of NPO's start model are
    kept with our rows, as in a run.

    Args:
        theirs: open-unlearning.
        target: The model that is evaluated and trained.
        start: The frozen start model, also that of the reference attack.
        codec: The models' prompt encoder.
        sets: The evaluation sets.
        rows: Our rows of a step.
        batches: open-unlearning's batches of a step.
        rounds: How often the two take turns, 1 or more.
    """
    registry = trainers()

    def their_evaluation() -> None:
        for name, facts in sets.items():
            if name != "holdout":
                theirs.set_numbers(target, name, facts)
        theirs.attacks(target, start, sets["forget"], sets["holdout"])

    def steps(name: str) -> tuple[Work, Work]:
        pair = PAIRS[name]
        return (
            lambda: theirs_of_pair(registry[pair.trainer], target, start, pair, batches),
            lambda: ours_of_pair(target, start, pair, rows, pad_id=codec.pad_id, hidden=False),
        )

    works: dict[str, tuple[Work, Work]] = {
        "evaluation, our own definitions": (their_evaluation, lambda: _own(target, codec, sets)),
        "evaluation.protocol=open_unlearning": (their_evaluation, lambda: _under_protocol(target, codec, sets)),
        "a step of GradDiff": steps("grad_diff"),
        "a step of NPO+KL": steps("npo_kl"),
    }
    lines = ["", "| work | theirs, CPU-s | ours, CPU-s | x | from | to |", "|---|---|---|---|---|---|"]
    for name, (their, our) in works.items():
        times = [(_seconds(their), _seconds(our)) for _ in range(rounds)]
        found = [one / other for one, other in times]
        its, mine = (median(column) for column in zip(*times, strict=True))
        lines.append(f"| {name} | {its:.3g} | {mine:.3g} | {median(found):.2f} | {min(found):.2f} | {max(found):.2f} |")
    return lines


def _own(model: Any, codec: PromptEncoder, sets: Mapping[str, Sequence[Fact]]) -> list[AnswerRow]:
    asked = [(name, number, fact) for name, facts in sets.items() for number, fact in enumerate(facts)]
    return list(
        predict(
            model, codec, asked, max_new_tokens=NEW_TOKENS, batch=BATCH, slots=SLOTS, gradients=GRADIENTS, progress=None
        )
    )  # fmt: skip


def _under_protocol(model: Any, codec: PromptEncoder, sets: Mapping[str, Sequence[Fact]]) -> list[AnswerRow]:
    found: list[AnswerRow] = []
    for name, facts in sets.items():
        for group in generation_batches("open_unlearning", [len(facts)]):
            asked = [(name, number, facts[number]) for number in group]
            found += predict_under_protocol(
                "open_unlearning", model, codec, asked, batch=BATCH, gradients=GRADIENTS, progress=None
            )
    return found


def _seconds(work: Work) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
