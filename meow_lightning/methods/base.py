"""What every method is unless it says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from meow_lightning.types import Batch, LossParts, Reference

if TYPE_CHECKING:
    import torch


class BaseMethod:
    """A method that reads no stream and trains nothing: its model is the one it starts from.

    Attributes:
        streams: What a batch must hold: ``forget``, ``retain``, ``inverted``, ``idk`` (the forget set's questions, each
            with a refusal); an epoch visits the first one's rows. ``inverted`` makes the pipeline write, score and
            select inverted facts. Empty: nothing is trained.
        paired: Streams whose rows belong one by one to those of the first.
        reference: What of the frozen start model is needed: ``logprobs``, how likely it finds the answers of forget,
            idk and inverted stream (``TokenBatch.ref_logps_B``; computed once, no second model in memory); ``model``,
            the model itself, handed to ``loss``; ``both``.
        surrogate: Parts whose value is not what their gradient lowers: weights inside them are held fixed.
        start: Which model the method starts from: ``target`` or ``retain``.
    """

    streams: ClassVar[tuple[str, ...]] = ()
    paired: ClassVar[tuple[str, ...]] = ()
    reference: ClassVar[Reference] = "none"
    surrogate: ClassVar[tuple[str, ...]] = ()
    start: ClassVar[Literal["target", "retain"]] = "target"

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """The parts of the loss on one micro-batch.

        Args:
            model: What is trained.
            batch: Rows by stream.
            reference: The frozen start model where ``reference`` is ``model``; it is called like any model, and what it
                gives needs no gradient.

        Raises:
            TypeError: Always here: a method that names streams must give a loss.
        """
        raise TypeError(f"{type(self).__name__} names the streams {self.streams} but gives no loss")

    def prepare(self, model: torch.nn.Module, seed: int) -> None:
        """Nothing; a method may look at the start model here, and freeze weights that it leaves as they are.

        Called before the first step, also of a resumed training.

        Args:
            model: The start model.
            seed: Seed of whatever is drawn.
        """

    def on_step_end(self, values: Mapping[str, float]) -> None:
        """Nothing; a method may note how a step went. What changes by it must stand in :meth:`state`.

        Args:
            values: Each part's ``sum / count`` over the whole global batch, alike in all processes.
        """

    @property
    def done(self) -> bool:
        """Whether training may end before its last planned step; asked after every :meth:`on_step_end`."""
        return False

    def state(self) -> dict[str, float]:
        """What changed in training and a resumed one needs; given back to :meth:`restore`."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Nothing; a method takes back what :meth:`state` said."""

    def finish(self, model: torch.nn.Module, start: Mapping[str, torch.Tensor]) -> None:
        """Nothing; a method may change the trained model in place here, once, after the last step.

        Args:
            model: The trained model; adapters are merged.
            start: The start model's weights by name, on the CPU.
        """
