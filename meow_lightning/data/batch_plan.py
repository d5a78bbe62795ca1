"""Batch plan: the rows of step t as a pure function of (seed, t), for all processes together.

The plan consists of *global* batches with known denominators, so the number of processes and the micro-batch size only
decide which process computes which summand. Resuming at step t needs only t.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, chain, pairwise

from meow_lightning.data.checks import check_range
from meow_lightning.errors import UserError, invalid_option
from meow_lightning.types import Encoded

Counts = dict[str, dict[str, int]]  # stream -> {"token": scored tokens, "row": rows} of the global batch
Visit = tuple[int, int]  # (round through a stream, row within it)


@dataclass(frozen=True, slots=True)
class StreamData:
    """Rows of one stream.

    Attributes:
        rows: The rows, of the first pass if they are drawn anew in each.
        fresh: Additional rows of single epochs, equally many in all.
        drawn: The rows of every pass, equally many; empty if they are the same in all. Further passes begin anew.
    """

    rows: Sequence[Encoded]
    fresh: Sequence[Sequence[Encoded]] = field(default=())
    drawn: Sequence[Sequence[Encoded]] = field(default=())

    @classmethod
    def of_draws(cls, rows: Sequence[Encoded], draws: int) -> StreamData:
        """Divide rows into equal parts, one for each pass; a single part is that of all passes.

        Args:
            rows: The rows, draw by draw.
            draws: Number of parts, from 1.
        """
        size = len(rows) // draws
        parts = [rows[place * size : (place + 1) * size] for place in range(draws)]
        return cls(rows=parts[0], drawn=parts if draws > 1 else ())

    @property
    def every(self) -> list[Encoded]:
        """All rows of all passes."""
        return [*(self.rows if not self.drawn else ()), *chain.from_iterable((*self.drawn, *self.fresh))]


class BatchPlan:
    """The global batches of a training run.

    The first stream is the anchor: an epoch visits each of its rows once, in steps of nearly equal size. The other
    streams contribute as many rows per step as the anchor: paired streams the corresponding rows, the others successive
    permutations of their own rows.

    With ``batch_tokens``, steps are length buckets: the anchor's rows are sorted by length (ties as shuffled) and cut
    into steps of nearly equal token counts (:func:`pack_by_tokens`), which are then shuffled. The other streams
    contribute the same rows per epoch, also sorted, so that their longest rows join the anchor's longest.

    Args:
        streams: Streams by name; the first one is the anchor.
        global_batch_size: Maximum anchor rows per global step; ignored if ``batch_tokens`` is given.
        batch_tokens: Maximum anchor tokens per global step, including prompts, excluding padding; ``None`` for steps of
            ``global_batch_size`` rows of any length.
        epochs: Number of passes over the anchor.
        seed: Seed of all permutations.
        paired: Streams whose row i corresponds to row i of the anchor.
    """

    def __init__(
        self, *, streams: Mapping[str, StreamData], global_batch_size: int, batch_tokens: int | None, epochs: int,
        seed: int, paired: Sequence[str],
    ) -> None:  # fmt: skip
        for name, stream in streams.items():
            if not stream.rows:
                raise UserError(f"the stream {name!r} has no rows, so there is nothing to train on")
        check_range("optim.global_batch_size", global_batch_size, 1, None)
        check_range("optim.epochs", epochs, 0, None)
        self.streams, self.paired = dict(streams), frozenset(paired)
        self.anchor = next(iter(self.streams))
        for name in self.paired:
            if len(self.streams[name].rows) != len(self.streams[self.anchor].rows):
                raise ValueError(f"{name} is paired with {self.anchor} but has a different number of rows")
        self.seed = seed
        anchor = self.streams[self.anchor]
        if anchor.fresh and len(anchor.fresh) < epochs:
            raise UserError(
                f"the stream {self.anchor!r} has fresh rows for {len(anchor.fresh)} epochs, but optim.epochs={epochs}"
            )
        self.rows_per_epoch = len(anchor.rows) + (len(anchor.fresh[0]) if anchor.fresh else 0)
        self._sizes = self._even(global_batch_size) if batch_tokens is None else self._packed(batch_tokens)
        self._bucketed = batch_tokens is not None
        self.steps_per_epoch = len(self._sizes)
        self.total_steps = self.steps_per_epoch * epochs
        self._order = lru_cache(maxsize=4 * len(self.streams))(self._shuffle)
        self._taken = lru_cache(maxsize=2 * len(self.streams))(self._take)

    def _even(self, batch: int) -> list[int]:
        """Compute the rows per step: as few steps of at most ``batch`` rows as possible, of nearly equal size."""
        steps = -(-self.rows_per_epoch // batch)
        ends = [place * self.rows_per_epoch // steps for place in range(steps + 1)]
        return [last - first for first, last in pairwise(ends)]

    def _packed(self, tokens: int) -> list[int]:
        """Compute the rows per step under the token limit, steps of short rows first."""
        anchor = self.streams[self.anchor]
        if anchor.fresh or anchor.drawn:
            raise ValueError("rows that differ between epochs also differ in length and cannot be bucketed by length")
        lengths = sorted(len(row.ids) for row in anchor.rows)
        if lengths[-1] > tokens:
            expected = (
                f"at least {lengths[-1]}, the tokens of the longest row of the stream {self.anchor!r}, or null for "
                "steps of optim.global_batch_size rows"
            )
            raise invalid_option("optim.batch_tokens", tokens, expected, did_you_mean=lengths[-1])
        return pack_by_tokens(lengths, tokens=tokens)

    def _shuffle(self, name: str, round_: int) -> list[int]:
        stream = self.streams[name]
        order = list(range(len(stream.rows) + (len(stream.fresh[round_]) if stream.fresh else 0)))
        random.Random(f"{self.seed}/{name}/{round_}").shuffle(order)
        return order

    def _row(self, name: str, visit: Visit) -> Encoded:
        stream, (round_, index) = self.streams[name], visit
        if stream.drawn:
            return stream.drawn[round_ % len(stream.drawn)][index]
        return stream.rows[index] if index < len(stream.rows) else stream.fresh[round_][index - len(stream.rows)]

    def _take(self, name: str, epoch: int) -> list[list[Visit]]:
        """Select each step's rows in an epoch, of the anchor or an unpaired stream."""
        first, size = epoch * self.rows_per_epoch, len(self.streams[name].rows)
        rounds = [(epoch, i) for i in range(self.rows_per_epoch)]
        if name != self.anchor:
            rounds = [divmod(i, size) for i in range(first, first + self.rows_per_epoch)]
        visits = [(round_, self._order(name, round_)[place]) for round_, place in rounds]
        if self._bucketed:
            visits.sort(key=lambda visit: len(self._row(name, visit).ids))
        ends = accumulate(self._sizes)
        steps = [visits[end - rows : end] for rows, end in zip(self._sizes, ends, strict=True)]
        if self._bucketed:
            random.Random(f"{self.seed}/steps/{epoch}").shuffle(steps)  # the same order for every stream
        return steps

    def step(self, t: int) -> dict[str, list[Encoded]]:
        """Return the rows of global step t (0 to total_steps - 1) by stream."""
        epoch, place = divmod(t, self.steps_per_epoch)
        return {
            name: [self._row(name, visit) for visit in self._taken(leader, epoch)[place]]
            for name, leader in ((name, self.anchor if name in self.paired else name) for name in self.streams)
        }


def pack_by_tokens(lengths: Sequence[int], *, tokens: int) -> list[int]:
    """Cut rows into as few batches as hold at most ``tokens`` each, of nearly equal size; return the rows of each.

    With k batches left for S tokens, the next batch ends as close to S / k as possible (the earlier end if two are
    equally close), provided that the remaining rows fit into k - 1 batches.

    Args:
        lengths: Tokens of each row, at most ``tokens``; neighbours share a batch.
        tokens: Maximum tokens per batch.
    """
    sums = [0, *accumulate(lengths)]
    furthest = [bisect_right(sums, start + tokens) - 1 for start in sums[:-1]]
    least = [0] * len(sums)  # minimum number of batches for the rows from here on
    for first in reversed(range(len(lengths))):
        least[first] = 1 + least[furthest[first]]
    sizes, first = [], 0
    for left in range(least[0], 0, -1):
        ends = range(first + 1, min(furthest[first], len(lengths) - left + 1) + 1)
        apart = {e: abs(left * (sums[e] - sums[first]) - (sums[-1] - sums[first])) for e in ends if least[e] < left}
        end = min(apart, key=apart.__getitem__)
        sizes.append(end - first)
        first = end
    return sizes


def counts(batch: Mapping[str, Sequence[Encoded]]) -> Counts:
    """Count the scored tokens and rows of each stream: the denominators of a global batch."""
    return {name: {"token": sum(row.scored for row in rows), "row": len(rows)} for name, rows in batch.items()}


def shard_micro_batches(
    batch: Mapping[str, Sequence[Encoded]], *, rank: int, world: int, micro: int
) -> list[dict[str, list[Encoded]]]:
    """Select one process's micro-batches of a global batch, at most ``micro`` rows per stream each.

    Row i goes to process i mod world, so each row is processed exactly once. A process (or the last micro-batches of a
    short stream) may get no rows of a stream; its list is then empty.
    """
    own = {name: list(rows[rank::world]) for name, rows in batch.items()}
    parts = max(1, -(-max(len(rows) for rows in own.values()) // micro))
    return [{name: rows[i * micro : (i + 1) * micro] for name, rows in own.items()} for i in range(parts)]


def shard_token_batches(
    batch: Mapping[str, Sequence[Encoded]], *, rank: int, world: int, tokens: int, paired: Collection[str]
) -> list[dict[str, list[Encoded]]]:
    """Like :func:`shard_micro_batches`, but limited by tokens: rows times the longest row is at most ``tokens``.

    Rows are sorted by length, the longest first, and dealt out in turn, so that all processes have similar work. A row
    longer than ``tokens`` forms its own micro-batch. Rows of ``paired`` streams stay with those of the first stream.
    """
    anchor = next(iter(batch))
    joined = [anchor, *(name for name in batch if name in paired)]
    cut: dict[str, list[list[Encoded]]] = {}
    for names in (joined, *([name] for name in batch if name not in joined)):
        rows = list(zip(*(batch[name] for name in names), strict=True))
        rows.sort(key=lambda row: -max(len(each.ids) for each in row))
        parts = _cut(rows[rank::world], tokens)
        cut |= {name: [[row[place] for row in part] for part in parts] for place, name in enumerate(names)}
    count = max(1, *map(len, cut.values()))
    return [{name: cut[name][i] if i < len(cut[name]) else [] for name in batch} for i in range(count)]


def _cut(rows: Sequence[tuple[Encoded, ...]], tokens: int) -> list[list[tuple[Encoded, ...]]]:
    parts: list[list[tuple[Encoded, ...]]] = []
    widths: list[int] = []
    for row in rows:
        lengths = [len(each.ids) for each in row]
        wider = list(map(max, lengths, widths or lengths))
        if parts and all((len(parts[-1]) + 1) * width <= tokens for width in wider):
            parts[-1].append(row)
            widths = wider
        else:
            parts.append([row])
            widths = lengths
    return parts
