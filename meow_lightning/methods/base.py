"""Base class and defaults of every unlearning method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.types import Batch, LossParts, Reference, TokenBatch

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareContext:
    """What a method may look at before training.

    Attributes:
        model: The start model, complete, in evaluation mode on ``device``; with adapters around it if there are any.
        batches: Maps a stream of the method to its rows in micro-batches on ``device``, in a fixed order: all rows in
            every process, so that all processes compute the same.
        seed: Seed of all random draws.
        device: Device of the model.
    """

    model: torch.nn.Module
    batches: Callable[[str], Iterator[TokenBatch]]
    seed: int
    device: torch.device


class BaseMethod:
    """A method without streams trains nothing: its result is the start model.

    Attributes:
        streams: Streams of a batch: ``forget``, ``retain``, ``inverted``, ``idk`` (the forget set's questions, each
            with a refusal), or streams of the method's own. An epoch is one pass over the first. ``inverted`` makes the
            pipeline generate, score and select inverted facts. Empty: nothing is trained.
        builders: Builders of the rows of the method's own streams, by name; one named ``retain`` replaces the retain
            set, for example by a part of it.
        paired: Streams whose rows correspond one to one to those of the first.
        reference: Data that the loss needs of the frozen start model: ``logprobs``, its log-probabilities of answers
            of the forget, idk and inverted streams (``TokenBatch.ref_logps_B``; computed once, no second model in
            memory); ``model``, the model itself, passed to ``loss``; ``both``.
        surrogate: Parts whose value is not the objective that their gradient minimizes, since they contain detached
            weights.
        per_row: Whether the forget set's loss is a mean over rows, in parts with ``LossPart.rows``, which
            ``optim.aggregate`` can replace by another aggregate.
        start: The model that training starts from: ``target`` or ``retain``.
        attaches: Whether :meth:`prepare` attaches modules to the model. Such a method works neither with ``model.lora``
            nor with sharded weights.
        keeps_start: Whether the start model's own weights stay as they are in the finished model; the report then shows
            the knowledge of the start model alone.
        version: Increased when the same options give another model; subclasses inherit it, and it is part of the
            unlearned model's key.
        sparse: Whether the method changes few weights, so that an undo file, which holds their start values, is stored
            beside the unlearned model.
    """

    streams: tuple[str, ...] = ()
    builders: Mapping[str, StreamBuilder] = MappingProxyType({})
    paired: tuple[str, ...] = ()
    reference: Reference = "none"
    surrogate: tuple[str, ...] = ()
    per_row: ClassVar[bool] = False
    start: ClassVar[Literal["target", "retain"]] = "target"
    attaches: ClassVar[bool] = False
    keeps_start: ClassVar[bool] = False
    version: ClassVar[int] = 1
    sparse: ClassVar[bool] = False

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

    def prepare(self, ctx: PrepareContext) -> None:
        """Inspect the start model and the data, for example in a Fisher pass; the default does nothing.

        Modules may be attached to the model, such as an assistant that is trained in its place. Called once before the
        first step, also when training is resumed; without adapters, what :meth:`export` is given is this model.

        Args:
            ctx: The start model, the rows of the streams, the seed, the device.
        """

    def parameters(self, model: torch.nn.Module) -> Iterable[tuple[str, torch.nn.Parameter]] | None:
        """Select the weights to train, by name; ``None``, the default: all that require a gradient.

        All others are frozen. Weights that are frozen already (those beside adapters) are not trained in any case.

        Args:
            model: The prepared model.
        """
        return None

    def phase(self, epoch: int) -> tuple[str, ...]:
        """Select the streams that an epoch reads; the default: all.

        :meth:`loss` then receives only these, in batches of the same steps.

        Args:
            epoch: Number of the epoch, from 0; one pass over the rows of the first stream of :attr:`streams`.
        """
        return self.streams

    def regularizer(self, model: torch.nn.Module, start: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Compute a scalar that is added to every step's loss once, with its weight; ``None``, the default: no term.

        It depends on the weights alone, elementwise, as an L2 distance to the start does: sharded weights have no
        other operations, unless each is gathered (``full_tensor``). It is logged as ``loss/regularizer``.

        Args:
            model: The model in training.
            start: The trained weights before the first step, by the names of ``model.named_parameters()``, on the same
                device.
        """
        return None

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

    def export(self, model: torch.nn.Module, folder: Path) -> None:
        """Write the finished model into an empty folder; the default: ``save_pretrained``.

        ``config.json`` must be among the files; tokenizer files are added by the caller. A method whose model is more
        than one checkpoint writes the others into folders below and overrides :meth:`load`.

        Args:
            model: The trained model after :meth:`finalize`.
            folder: The folder.
        """
        model.save_pretrained(folder, safe_serialization=True)  # type: ignore[operator]

    def load(self, folder: Path, *, dtype: str, attention: str) -> Any:
        """Load what :meth:`export` wrote, on the CPU.

        Args:
            folder: The folder.
            dtype: Precision of the weights, such as ``float32``.
            attention: transformers' attention implementation.

        Returns:
            A model with ``config`` and ``generation_config``, which :meth:`inference` accepts.
        """
        from meow_lightning.models.load import load_checkpoint

        return load_checkpoint(folder, dtype=dtype, attention=attention)

    def inference(self, model: Any) -> torch.nn.Module:
        """Return the model that answers; the default: ``model``.

        Everything that reads answers or probabilities of the unlearned model asks it: predictions, MEMO, curves during
        training, reference models. It shares the weights of ``model``.

        Args:
            model: The model in training, or the result of :meth:`load`.

        Returns:
            ``model`` or a :class:`~meow_lightning.models.logits_model.LogitsModel`.
        """
        return model
