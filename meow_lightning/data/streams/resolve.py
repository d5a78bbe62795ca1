"""The builders of a method's streams, and the check that a dataset has what they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from meow_lightning.data.examples import Dataset, is_passage
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.data.streams.inverted import Inverted
from meow_lightning.data.streams.refusals import REFUSALS, Refusals
from meow_lightning.data.streams.split import Split
from meow_lightning.errors import UserError
from meow_lightning.types import InvertedFact, Method


def stream_builders(
    method: Method, *, inverted: Sequence[InvertedFact] = (), refusals: Refusals | None = None
) -> dict[str, StreamBuilder]:
    """Return the builder of each stream of a method, in order: the method's own, else the shared one of that name.

    A stream without a builder is the split of that name.

    Args:
        method: The method.
        inverted: The selected inverted facts, one per row; empty before they are selected.
        refusals: Builder of the stream ``idk``; ``None`` for one of our own refusals.
    """
    shared: dict[str, StreamBuilder] = {"inverted": Inverted(inverted), "idk": refusals or Refusals(REFUSALS, draws=1)}
    known = {**shared, **method.builders}
    return {name: known.get(name) or Split(name) for name in method.streams}


def check_streams(streams: Mapping[str, StreamBuilder], dataset: Dataset, *, method: str) -> None:
    """Check that a dataset has the examples that a method trains on.

    Args:
        streams: The builders of the method's streams.
        dataset: The dataset.
        method: Name of the method, for the message.

    Raises:
        UserError: A stream has no examples, or passages have no such stream.
    """
    for builder in streams.values():
        if builder.replies is not None and any(map(is_passage, dataset.facts("forget"))):
            raise UserError(
                f"method={method} trains on {builder.replies} questions, but dataset={dataset.name} has passages of "
                "documents to forget; choose a method that trains on the forget set itself, such as method=npo"
            )
        for split in builder.splits:
            if not dataset.facts(split):
                raise UserError(
                    f"method={method} trains on the {split} set, but dataset={dataset.name} has none; provide one, or "
                    "choose a method that needs none, such as method=meow"
                )
