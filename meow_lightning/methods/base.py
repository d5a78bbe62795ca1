"""What every method is unless it says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class BaseMethod:
    """A method that reads no stream and trains nothing: its model is the one it starts from.

    Attributes:
        streams: What a batch must hold: ``forget``, ``retain``, ``inverted``; an epoch visits the first one's rows.
            ``inverted`` makes the pipeline write, score and select inverted facts. Empty: nothing is trained.
        reference: Whether the frozen start model is needed; ``none`` for all that is built so far.
        start: Which model the method starts from: ``target`` or ``retain``.
    """

    streams: ClassVar[tuple[str, ...]] = ()
    reference: ClassVar[Literal["none", "logprobs", "model"]] = "none"
    start: ClassVar[Literal["target", "retain"]] = "target"

    def loss(self, model: torch.nn.Module, batch: Batch, reference: Batch | None) -> LossParts:
        """The parts of the loss on one micro-batch.

        Raises:
            TypeError: Always here: a method that names streams must give a loss.
        """
        raise TypeError(f"{type(self).__name__} names the streams {self.streams} but gives no loss")
