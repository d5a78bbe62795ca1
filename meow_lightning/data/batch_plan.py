"""Which rows step t trains on: a pure function of (seed, t), planned for the whole world before it is split.

Because the plan is about *global* batches and knows their denominators, the number of processes and the micro-batch
only decide who computes which summand. Resuming at step t needs nothing but t.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, pairwise

from meow_lightning.errors import UserError
from meow_lightning.types import Encoded

Counts = dict[str, dict[str, int]]  # stream -> {"token": scored tokens, "row": rows} of the global batch
Visit = tuple[int, int]  # (round through a stream, row within it)


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

    With ``batch_tokens`` steps are length buckets. The anchor's rows are sorted by length (ties as they are shuffled),
    cut into steps of nearly equal tokens (:func:`pack_by_tokens`), which are shuffled. Another stream gives the same
    rows in an epoch, sorted too: its longest ones go with the anchor's longest.

    Args:
        streams: Streams by name; the first one is the anchor.
        global_batch_size: Rows of the anchor in one global step, at most; not looked at where ``batch_tokens`` is
            given.
        batch_tokens: Tokens of the anchor in one global step, at most, prompts counted in and padding not; ``None`` for
            steps of ``global_batch_size`` rows of any length.
        epochs: Visits of every anchor row.
        seed: Seed of all permutations.
        paired: Streams whose row i belongs to row i of the anchor.
    """

    def __init__(
        self, *, streams: Mapping[str, Stream], global_batch_size: int, batch_tokens: int | None, epochs: int,
        seed: int, paired: Sequence[str],
    ) -> None:  # fmt: skip
        for name, stream in streams.items():
            if not stream.rows:
                raise UserError(f"the stream {name!r} holds no row, so there is nothing to train on")
        if global_batch_size < 1 or epochs < 0:
            raise UserError(
                f"optim.global_batch_size must be 1 or more and optim.epochs 0 or more, given: {global_batch_size} and "
                f"{epochs}"
            )
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
        self._sizes = self._even(global_batch_size) if batch_tokens is None else self._packed(batch_tokens)
        self._bucketed = batch_tokens is not None
        self.steps_per_epoch = len(self._sizes)
        self.total_steps = self.steps_per_epoch * epochs
        self._order = lru_cache(maxsize=4 * len(self.streams))(self._shuffle)
        self._taken = lru_cache(maxsize=2 * len(self.streams))(self._take)

    def _even(self, batch: int) -> list[int]:
        """Rows of each step of an epoch: as few steps as hold at most ``batch``, sizes one apart at most."""
        steps = -(-self.rows_per_epoch // batch)
        ends = [place * self.rows_per_epoch // steps for place in range(steps + 1)]
        return [last - first for first, last in pairwise(ends)]

    def _packed(self, tokens: int) -> list[int]:
        """Rows of each step of an epoch, steps of short rows first."""
        anchor = self.streams[self.anchor]
        if anchor.fresh:
            raise ValueError("fresh rows have other lengths in every epoch, so they cannot be put into length buckets")
        lengths = sorted(len(row.ids) for row in anchor.rows)
        if lengths[-1] > tokens:
            raise UserError(
                f"optim.batch_tokens={tokens} is too small: the longest row of the stream {self.anchor!r} has "
                f"{lengths[-1]} tokens; give as many or more, or null for steps of optim.global_batch_size rows"
            )
        return pack_by_tokens(lengths, tokens=tokens)

    def _shuffle(self, name: str, round_: int) -> list[int]:
        stream = self.streams[name]
        order = list(range(len(stream.rows) + (len(stream.fresh[round_]) if stream.fresh else 0)))
        random.Random(f"{self.seed}/{name}/{round_}").shuffle(order)
        return order

    def _row(self, name: str, visit: Visit) -> Encoded:
        stream, (round_, index) = self.streams[name], visit
        return stream.rows[index] if index < len(stream.rows) else stream.fresh[round_][index - len(stream.rows)]

    def _take(self, name: str, epoch: int) -> list[list[Visit]]:
        """What each step of an epoch takes of a stream that is paired with no other."""
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
            random.Random(f"{self.seed}/steps/{epoch}").shuffle(steps)  # alike for every stream
        return steps

    def step(self, t: int) -> dict[str, list[Encoded]]:
        """The global batch of step t (0 .. total_steps - 1), by stream."""
        epoch, place = divmod(t, self.steps_per_epoch)
        return {
            name: [self._row(name, visit) for visit in self._taken(leader, epoch)[place]]
            for name, leader in ((name, self.anchor if name in self.paired else name) for name in self.streams)
        }


def pack_by_tokens(lengths: Sequence[int], *, tokens: int) -> list[int]:
    """How many rows go into each batch, in order: as few batches as hold at most ``tokens`` each, nearly equal ones.

    With k batches left for S tokens the next one ends where it is nearest to S / k (the earlier of two such ends), of
    the ends that leave what k - 1 batches can hold.

    Args:
        lengths: Tokens of each row, none of them more than ``tokens``; neighbours share a batch.
        tokens: The most that a batch may hold.
    """
    sums = [0, *accumulate(lengths)]
    furthest = [bisect_right(sums, start + tokens) - 1 for start in sums[:-1]]
    least = [0] * len(sums)  # batches that the rows from here on need
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
    """The denominators of a global batch: scored tokens and rows of each stream."""
    return {name: {"token": sum(row.scored for row in rows), "row": len(rows)} for name, rows in batch.items()}


def shard_micro_batches(
    batch: Mapping[str, Sequence[Encoded]], *, rank: int, world: int, micro: int
) -> list[dict[str, list[Encoded]]]:
    """What one of ``world`` processes computes of a global batch: micro-batches of at most ``micro`` rows a stream.

    Row i goes to process i mod world; together the shares hold each row exactly once. A process (or the last
    micro-batches of a short stream) may get none of a stream's rows: the list is then empty there.
    """
    mine = {name: list(rows[rank::world]) for name, rows in batch.items()}
    parts = max(1, -(-max(len(rows) for rows in mine.values()) // micro))
    return [{name: rows[i * micro : (i + 1) * micro] for name, rows in mine.items()} for i in range(parts)]


def shard_token_batches(
    batch: Mapping[str, Sequence[Encoded]], *, rank: int, world: int, tokens: int, paired: Collection[str]
) -> list[dict[str, list[Encoded]]]:
    """Shard as :func:`shard_micro_batches` does, by tokens: at most ``tokens`` a stream, rows times their longest.

    Rows are sorted by length, the longest first, and dealt out one by one, so that all processes have alike much to
    do. A row longer than ``tokens`` goes alone. Rows of ``paired`` streams stay beside theirs of the first stream.
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
