"""How long a stage takes, from what it computes and from the stages that were measured; all without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, Protocol

from meow_lightning.resources.training_memory import ModelDims

# Where a time comes from: of the result itself, of one made in the same way by a model of the same size, of another
# way or size, of a model of a very different size, from nowhere.
Source = Literal["took", "like", "size", "far", ""]

ROWS = ("rows", "facts", "others", "sets", "seed", "splits")  # settings that say which rows, not how they are worked on
SAME = 1.25  # largest ratio of weights of two models of the same size
FAR = 10.0  # largest ratio of weights at which one model's rate is taken for another's without a caution
SPREAD = 3.0  # beyond it the time lies between a third and three times of what is expected
LARGE = 1 / 3  # runs with a smaller share of the largest run's work are not looked at: start-up is too much of them


def inference_flops(shape: ModelDims, *, tokens: int, scored: int) -> int:
    """Floating-point operations of reading or writing: 2 per weight and token, the head's at scored tokens alone.

        2 (body * tokens + head * scored)

    Args:
        shape: The model.
        tokens: Tokens in all, prompts included.
        scored: Tokens at which the vocabulary is looked at.
    """
    return 2 * (shape.body_parameters * tokens + shape.head_parameters * scored)


def training_flops(
    shape: ModelDims, *, tokens: int, scored: int, gradient_checkpointing: bool, adapters: bool, reference: bool
) -> int:  # fmt: skip
    """Floating-point operations of training on ``tokens`` tokens in all: 2, 2 and 2 per weight and token.

    They are the forward pass, the gradients of activations, and the gradients of weights (not with adapters, whose own
    are few); checkpointing adds a second forward pass, and so does a frozen reference model. So 6, with checkpointing
    8, with adapters 4, with both 6 (Kaplan et al. 2020, section 2.1; without the T x T part of attention, small for
    short texts).
    """
    passes = 3 + gradient_checkpointing - adapters + reference
    return passes * inference_flops(shape, tokens=tokens, scored=scored)


def duration_key(label: str, settings: Mapping[str, Any]) -> str:
    """How a result is made, apart from its rows: what two stages of like duration share."""
    return json.dumps([label, {key: value for key, value in settings.items() if key not in ROWS}], sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """What a stage has to do.

    Attributes:
        flops: Floating-point operations; 0 where they do not decide.
        parameters: Weights of the model that computes; 0 where none does.
        items: Rows, questions or facts that it works on: what decides where no model computes.
    """

    flops: float
    parameters: int
    items: int

    @property
    def work(self) -> float:
        """What time is proportional to."""
        return self.flops or self.items

    def apart(self, other: Amount) -> float:
        """The ratio of the two models' weights, 1 or more; infinite where only one of two is by a model."""
        if bool(self.flops) != bool(other.flops):
            return math.inf
        if not self.flops:
            return 1.0
        return max(self.parameters, other.parameters) / max(1, min(self.parameters, other.parameters))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A stage that was made: how (see :func:`duration_key`), what it did, and how many seconds that took."""

    way: str
    amount: Amount
    seconds: float


def expected_seconds(amount: Amount, *, way: str, known: Sequence[Measured]) -> tuple[float | None, Source]:
    """The seconds that some work is expected to take, and where they come from; ``None`` where nothing is alike.

        seconds = work / median of work' / seconds'

    over the measured stages whose model is nearest in size, of these those made in the same way where there are any, of
    these the ones with at least a third of the work of the largest.

    Args:
        amount: What is to be done.
        way: How.
        known: The same kind of stage on the same kind of device.
    """
    alike = [each for each in known if each.amount.work > 0 and each.seconds > 0]
    nearest = min((amount.apart(each.amount) for each in alike), default=math.inf)
    if not amount.work or math.isinf(nearest):
        return None, ""
    alike = [each for each in alike if amount.apart(each.amount) <= nearest * SAME]
    same = [each for each in alike if each.way == way]
    most = max(each.amount.work for each in same or alike)
    rates = [each.amount.work / each.seconds for each in same or alike if each.amount.work >= most * LARGE]
    source: Source = "far" if nearest > FAR else "like" if same and nearest <= SAME else "size"
    return amount.work / median(rates), source


class Sized(Protocol):
    """Whatever knows the number of its weights, such as :class:`meow_lightning.resources.training_memory.ModelDims`."""

    @property
    def parameters(self) -> int:
        """Weights in all."""


def disk_needed(shape: Sized, *, weight_bytes: int, saved_bytes: int, trained: int) -> int:
    """Bytes a training stage has on the disk at most: the saved model and two checkpoints, one replacing the other.

    A checkpoint is all weights and AdamW's two moments of the trained ones; adapters are float32 at least.

    Args:
        shape: The model.
        weight_bytes: Per weight in training (4 for mixed precision; of the frozen weights with adapters).
        saved_bytes: Per weight of the saved model.
        trained: Trained weights: ``shape.parameters``, or the adapters'.
    """
    adapters = trained < shape.parameters
    moving = 3 * trained * max(4, weight_bytes) if adapters else 2 * trained * weight_bytes
    return 2 * (shape.parameters * weight_bytes + moving) + shape.parameters * saved_bytes
