"""Base class and defaults of every unlearning method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from meow_lightning.types import Batch, LossParts, Reference

if TYPE_CHECKING:
    import torch


class BaseMethod:
    """A method without streams trains nothing: its result is the start model.

    Attributes:
        streams: Streams of a batch: ``forget``, ``retain``, ``inverted``, ``idk`` (the forget set's questions, each
            with a refusal). An epoch is one pass over the first. ``inverted`` makes the pipeline generate, score and
            select inverted facts. Empty: nothing is trained.
        paired: Streams whose rows correspond one to one to those of the first.
        reference: Data that the loss needs of the frozen start model: ``logprobs``, its log-probabilities of answers
            of the forget, idk and inverted streams (``TokenBatch.ref_logps_B``; computed once, no second model in
            memory); ``model``, the model itself, passed to ``loss``; ``both``.
        surrogate: Parts whose value is not the objective that their gradient minimizes, since they contain detached
            weights.
        start: The model that training starts from: ``target`` or ``retain``.
        version: Increased when the same options give another model; subclasses inherit it, and it is part of the
            unlearned model's key.
    """

    streams: tuple[str, ...] = ()
    paired: tuple[str, ...] = ()
    reference: Reference = "none"
    surrogate: tuple[str, ...] = ()
    start: ClassVar[Literal["target", "retain"]] = "target"
    version: ClassVar[int] = 1

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Compute the loss parts of one micro-batch.

        Args:
            model: The model in training.
            batch: Rows by stream.
            reference: The frozen start model if :attr:`reference` is ``model`` or ``both``; called like any model, its
                outputs need no gradient.

        Raises:
            TypeError: Always; a method with streams must override it.
        """
        raise TypeError(f"{type(self).__name__} has the streams {self.streams} but defines no loss")

    def prepare(self, model: torch.nn.Module, seed: int) -> None:
        """Inspect the start model, for example to freeze weights; the default does nothing.

        Called before the first step, also when training is resumed.

        Args:
            model: The start model.
            seed: Seed of all random draws.
        """

    def on_step_end(self, values: Mapping[str, float]) -> None:
        """Update internal state, which :meth:`state_dict` must return, after a step; the default does nothing.

        Args:
            values: ``sum / count`` of each part over the global batch, identical in all processes.
        """

    @property
    def done(self) -> bool:
        """Whether training may stop before its last planned step; checked after every :meth:`on_step_end`."""
        return False

    def state_dict(self) -> dict[str, float]:
        """Return the state that resuming needs, for :meth:`load_state_dict`."""
        return {}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore the state returned by :meth:`state_dict`."""

    def finalize(self, model: torch.nn.Module, start: Mapping[str, torch.Tensor]) -> None:
        """Transform the trained model in place, once, after the last step; the default does nothing.

        Args:
            model: The trained model, with adapters merged.
            start: The start model's weights by name, on the CPU.
        """
