"""Which rows step t trains on: a pure function of (seed, t), planned for the whole world before it is split.

Because the plan is about *global* batches and knows their denominators, the number of processes and the micro-batch
only decide who computes which summand. Resuming at step t needs nothing but t.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from meow_lightning.types import Encoded, UserError

Counts = dict[str, dict[str, int]]  # stream -> {"token": scored tokens, "row": rows} of the global batch


@dataclass(frozen=True, slots=True)
class Stream:
    """Rows of one stream; ``fresh[e]`` are further rows that only epoch e sees (all epochs equally many)."""

    rows: Sequence[Encoded]
    fresh: Sequence[Sequence[Encoded]] = field(default=())


class Plan:
    """The global batches of a training run.

    The first stream is the anchor: an epoch visits each of its rows once, in steps of nearly equal size. The other
    streams give as many rows as the anchor does at that step: those that are paired with it the same ones, the others
    running through their own permutations without end.

    Args:
        streams: Streams by name; the first one is the anchor.
        batch: Rows of the anchor in one global step, at most.
        epochs: Visits of every anchor row.
        seed: Seed of all permutations.
        paired: Streams whose row i belongs to row i of the anchor.
    """

    def __init__(
        self, *, streams: Mapping[str, Stream], batch: int, epochs: int, seed: int, paired: Sequence[str]
    ) -> None:
        for name, stream in streams.items():
            if not stream.rows:
                raise UserError(f"the stream {name!r} holds no row, so there is nothing to train on")
        if batch < 1 or epochs < 0:
            raise UserError(f"optim.batch must be 1 or more and optim.epochs 0 or more, given: {batch} and {epochs}")
        self.streams, self.paired = dict(streams), frozenset(paired)
        self.anchor = next(iter(self.streams))
        for name in self.paired:
            if len(self.streams[name].rows) != len(self.streams[self.anchor].rows):
                raise ValueError(f"{name} is paired with {self.anchor} and has another number of rows")
        self.seed = seed
        anchor = self.streams[self.anchor]
        if anchor.fresh and len(anchor.fresh) < epochs:
            raise UserError(f"{len(anchor.fresh)} sets of fresh rows for {epochs} epochs")
        self.rows_per_epoch = len(anchor.rows) + (len(anchor.fresh[0]) if anchor.fresh else 0)
        self.steps_per_epoch = -(-self.rows_per_epoch // batch)
        self.total_steps = self.steps_per_epoch * epochs
        self._order = lru_cache(maxsize=4 * len(self.streams))(self._shuffle)

    def _shuffle(self, name: str, round_: int) -> list[int]:
        stream = self.streams[name]
        order = list(range(len(stream.rows) + (len(stream.fresh[round_]) if stream.fresh else 0)))
        random.Random(f"{self.seed}/{name}/{round_}").shuffle(order)
        return order

    def _row(self, name: str, round_: int, place: int) -> Encoded:
        stream, index = self.streams[name], self._order(name, round_)[place]
        return stream.rows[index] if index < len(stream.rows) else stream.fresh[round_][index - len(stream.rows)]

    def step(self, t: int) -> dict[str, list[Encoded]]:
        """The global batch of step t (0 .. total_steps - 1), by stream."""
        epoch, place = divmod(t, self.steps_per_epoch)
        first = place * self.rows_per_epoch // self.steps_per_epoch
        last = (place + 1) * self.rows_per_epoch // self.steps_per_epoch
        batch = {self.anchor: [self._row(self.anchor, epoch, i) for i in range(first, last)]}
        start = epoch * self.rows_per_epoch + first
        for name, stream in self.streams.items():
            if name in self.paired:
                order = self._order(self.anchor, epoch)
                batch[name] = [stream.rows[order[i]] for i in range(first, last)]
            elif name != self.anchor:
                places = (divmod(i, len(stream.rows)) for i in range(start, start + last - first))
                batch[name] = [self._row(name, round_, i) for round_, i in places]
        return batch


def counts(batch: Mapping[str, Sequence[Encoded]]) -> Counts:
    """The denominators of a global batch: scored tokens and rows of each stream."""
    return {name: {"token": sum(row.scored for row in rows), "row": len(rows)} for name, rows in batch.items()}


def share(
    batch: Mapping[str, Sequence[Encoded]], *, rank: int, world: int, micro: int
) -> list[dict[str, list[Encoded]]]:
    """What one of ``world`` processes computes of a global batch: micro-batches of at most ``micro`` rows a stream.

    Row i goes to process i mod world; together the shares hold each row exactly once. A process (or the last
    micro-batches of a short stream) may get none of a stream's rows: the list is then empty there.
    """
    mine = {name: list(rows[rank::world]) for name, rows in batch.items()}
    parts = max(1, -(-max(len(rows) for rows in mine.values()) // micro))
    return [{name: rows[i * micro : (i + 1) * micro] for name, rows in mine.items()} for i in range(parts)]
