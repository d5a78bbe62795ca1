from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from itertools import chain, pairwise
from math import ceil
from typing import Any

import pytest

from meow_lightning.data.batch_plan import (
    BatchPlan,
    StreamData,
    counts,
    pack_by_tokens,
    shard_micro_batches,
    shard_token_batches,
)
from meow_lightning.errors import UserError
from meow_lightning.types import Encoded


def rows(first: int, last: int) -> list[Encoded]:
    """Rows told apart by their first token; row i scores 1 + i % 3 tokens."""
    return [Encoded((i, *[7] * (1 + i % 3)), 1) for i in range(first, last)]


def long(lengths: Iterable[int], first: int = 0) -> list[Encoded]:
    """Rows of these lengths, told apart by their first token."""
    return [Encoded((first + i, *[7] * (length - 1)), 1) for i, length in enumerate(lengths)]


def sizes(batch: Iterable[Encoded]) -> list[int]:
    return [len(row.ids) for row in batch]


def names(batch: list[Encoded]) -> list[int]:
    return [row.ids[0] for row in batch]


def joined(lists: Iterable[list]) -> list:
    return list(chain.from_iterable(lists))


def plan(**changes: Any) -> BatchPlan:
    streams = {"forget": StreamData(rows(0, 11)), "retain": StreamData(rows(100, 107))}
    arguments = {"streams": streams, "global_batch_size": 4, "batch_tokens": None, "epochs": 5, "seed": 3, "paired": ()}
    return BatchPlan(**{**arguments, **changes})


def test_every_anchor_row_exactly_once_an_epoch_in_nearly_equal_steps() -> None:
    made = plan()
    # 11 rows in steps of at most 4: 3 steps; ends at 11//3, 22//3, 33//3 = 3, 7, 11, so 3 + 4 + 4 rows.
    assert (made.steps_per_epoch, made.total_steps) == (3, 15)
    for epoch in range(5):
        steps = [names(made.step(3 * epoch + place)["forget"]) for place in range(3)]
        assert [len(step) for step in steps] == [3, 4, 4]
        assert sorted(joined(steps)) == list(range(11))


@pytest.mark.parametrize(("total", "batch"), [(10, 4), (64, 64), (65, 64), (1, 9), (100, 7), (7, 1)])
def test_step_sizes_differ_by_one_at_most(total: int, batch: int) -> None:
    made = plan(streams={"a": StreamData(rows(0, total))}, global_batch_size=batch)
    sizes = [len(made.step(t)["a"]) for t in range(made.steps_per_epoch)]
    assert sum(sizes) == total
    assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 1


def test_a_step_is_a_pure_function_of_seed_and_number() -> None:
    asked = [plan().step(t) for t in range(15)]  # a fresh plan each time
    one = plan()
    backwards = {t: one.step(t) for t in reversed(range(15))}
    assert [backwards[t] for t in range(15)] == asked
    assert one.step(7) == asked[7]
    assert [plan(seed=4).step(t) for t in range(15)] != asked


def test_epochs_differ_in_order() -> None:
    made = plan()
    orders = [joined(names(made.step(3 * e + p)["forget"]) for p in range(3)) for e in range(5)]
    assert len({tuple(order) for order in orders}) == 5


def test_more_epochs_do_not_change_earlier_steps() -> None:
    assert [plan(epochs=9).step(t) for t in range(15)] == [plan().step(t) for t in range(15)]


def test_other_streams_cycle_through_all_their_rows() -> None:
    made = plan()
    served = joined(names(made.step(t)["retain"]) for t in range(15))
    assert len(served) == 55  # as many as anchor rows: 5 x 11
    rounds = [served[i : i + 7] for i in range(0, 55, 7)]
    assert all(sorted(each) == list(range(100, 107)) for each in rounds[:7])  # 7 whole rounds, then 6 rows
    assert len(set(rounds[7])) == 6
    assert rounds[0] != rounds[1]
    assert all(len(made.step(t)["retain"]) == len(made.step(t)["forget"]) for t in range(15))


def test_a_stream_longer_than_the_anchor_goes_on_in_the_next_epoch() -> None:
    made = plan(streams={"a": StreamData(rows(0, 2)), "b": StreamData(rows(100, 105))}, global_batch_size=2, epochs=5)
    served = joined(names(made.step(t)["b"]) for t in range(5))
    assert Counter(served) == dict.fromkeys(range(100, 105), 2)  # 10 rows served, 5 there are


def test_paired_rows_follow_the_anchor_row_by_row() -> None:
    places = {"idk": (0, 11), "forget": (200, 211), "retain": (100, 107)}
    streams = {name: StreamData(rows(*span)) for name, span in places.items()}
    made, alone = plan(streams=streams, paired=("forget",)), plan(streams={"idk": streams["idk"]})
    for t in range(15):
        step = made.step(t)
        assert names(step["forget"]) == [200 + i for i in names(step["idk"])]
        assert step["idk"] == alone.step(t)["idk"]
    with pytest.raises(ValueError, match=r"^forget is paired with idk but has a different number of rows$"):
        plan(streams={**streams, "forget": StreamData(rows(200, 210))}, paired=("forget",))


def test_drawn_rows_belong_to_one_pass() -> None:
    drawn = StreamData.of_draws([*rows(0, 5), *rows(10, 15), *rows(20, 25)], 3)
    assert (names(drawn.rows), len(drawn.every)) == ([0, 1, 2, 3, 4], 15)
    made = plan(
        streams={"idk": drawn, "truth": StreamData(rows(50, 55))}, global_batch_size=5, epochs=4, paired=("truth",)
    )
    for epoch in range(4):
        step = made.step(epoch)
        assert sorted(names(step["idk"])) == [10 * (epoch % 3) + place for place in range(5)]
        assert [name - 50 for name in names(step["truth"])] == [name % 10 for name in names(step["idk"])]
    other = plan(streams={"learn": StreamData(rows(50, 60)), "idk": drawn}, global_batch_size=10, epochs=1)
    assert sorted(names(other.step(0)["idk"])) == [*range(5), *range(10, 15)]  # two passes over the shorter stream
    assert StreamData.of_draws(rows(0, 5), 1) == StreamData(rows(0, 5))


def test_fresh_rows_belong_to_one_epoch() -> None:
    fresh = [rows(50, 53), rows(60, 63)]
    made = plan(streams={"learn": StreamData(rows(0, 5), fresh)}, global_batch_size=4, epochs=2)
    assert (made.rows_per_epoch, made.steps_per_epoch) == (8, 2)
    seen = [sorted(joined(names(made.step(2 * e + p)["learn"]) for p in range(2))) for e in range(2)]
    assert seen == [[0, 1, 2, 3, 4, 50, 51, 52], [0, 1, 2, 3, 4, 60, 61, 62]]


@pytest.mark.parametrize(
    ("lengths", "tokens", "expected"),
    [
        # 7 in 3 batches: 2 is nearest to 7/3, then 2 and 3 are as near to 5/2 and the earlier wins
        ([1] * 7, 3, [2, 2, 3]),
        ([2, 3, 4, 5], 9, [2, 2]),  # 14 in 2 batches: 5 and 9 are as near to 7
        ([1, 1, 1, 9], 9, [3, 1]),  # 6 would be the half, but the last row goes alone
        ([2, 2, 3, 3, 4, 4], 8, [3, 2, 1]),  # 18 in 3 batches: 7 (not 4) of 18/3, then 7 (not 3) of 11/2, then 4
        ([1, 1, 5, 5], 6, [2, 1, 1]),  # 12 in 3 batches: 2 is nearest to 4, since 7 would be too much
        ([5, 5, 5], 5, [1, 1, 1]),
        ([4], 9, [1]),
    ],
)
def test_packing_by_hand(lengths: list[int], tokens: int, expected: list[int]) -> None:
    assert pack_by_tokens(lengths, tokens=tokens) == expected


def test_packing_keeps_its_bound_with_as_few_batches_as_can_be() -> None:
    rng = random.Random(0)
    for _ in range(200):
        lengths = sorted(rng.choices(range(1, 20), k=rng.randint(1, 40)))
        tokens = rng.randint(lengths[-1], 60)
        found = pack_by_tokens(lengths, tokens=tokens)
        ends = [sum(found[:i]) for i in range(len(found) + 1)]
        sums = [sum(lengths[first:last]) for first, last in pairwise(ends)]
        assert ends[-1] == len(lengths)
        assert min(found) >= 1
        assert max(sums) <= tokens
        fewest, held = 1, 0
        for length in lengths:
            fewest, held = (fewest, held + length) if held + length <= tokens else (fewest + 1, length)
        assert len(found) == fewest


LENGTHS = [9, 3, 5, 4, 8, 3, 6, 4, 2, 7, 5]  # 56 tokens


def bucketed(**changes: Any) -> BatchPlan:
    streams = {"forget": StreamData(long(LENGTHS)), "retain": StreamData(long([2, 9, 4, 6, 3, 8, 5], 100))}
    return plan(**{"streams": streams, "batch_tokens": 15, **changes})


def test_a_bucket_holds_rows_of_like_length_and_every_row_comes_once_an_epoch() -> None:
    made = bucketed()
    # 2 3 3 4 4 5 5 6 7 8 9 need 5 steps of at most 15: 12 is nearest to 56/5 and 9 to 44/4, 11 to 35/3, 15 to 24/2
    buckets = [[2, 3, 3, 4], [4, 5], [5, 6], [7, 8], [9]]
    assert (made.steps_per_epoch, made.total_steps) == (5, 25)
    for epoch in range(5):
        steps = [made.step(5 * epoch + place)["forget"] for place in range(5)]
        assert sorted(sorted(sizes(step)) for step in steps) == buckets
        assert sorted(names(joined(steps))) == list(range(11))
    orders = [[sizes(made.step(5 * e + p)["forget"]) for p in range(5)] for e in range(5)]
    assert len({str(order) for order in orders}) == 5  # the steps are shuffled


def test_rows_of_one_length_change_their_bucket() -> None:
    made = bucketed()
    seen = {tuple(sorted(names(step))) for t in range(25) if len(step := made.step(t)["forget"]) == 4}
    assert len(seen) > 1  # the row of 4 tokens beside 2 3 3 is now one, now the other


def test_a_bucket_is_a_pure_function_of_seed_and_number() -> None:
    one, asked = bucketed(), [bucketed().step(t) for t in range(25)]
    assert list(reversed([one.step(t) for t in reversed(range(25))])) == asked
    assert [bucketed(epochs=9).step(t) for t in range(25)] == asked
    assert [bucketed(seed=4).step(t) for t in range(25)] != asked


def test_other_streams_contribute_the_same_rows_per_epoch_sorted_by_length() -> None:
    made = bucketed()
    served = [joined(made.step(5 * epoch + place)["retain"] for place in range(5)) for epoch in range(5)]
    evenly = plan(streams=made.streams, global_batch_size=4)
    assert [sorted(names(epoch)) for epoch in served] == [
        sorted(names(joined(evenly.step(3 * epoch + place)["retain"] for place in range(3)))) for epoch in range(5)
    ]
    for epoch in range(5):
        steps = [made.step(5 * epoch + place) for place in range(5)]
        assert all(len(step["retain"]) == len(step["forget"]) for step in steps)
        steps.sort(key=lambda step: max(sizes(step["forget"])))
        assert joined(sorted(sizes(step["retain"])) for step in steps) == sorted(sizes(served[epoch]))


def test_paired_rows_follow_into_the_buckets() -> None:
    streams = {"idk": StreamData(long(LENGTHS)), "forget": StreamData(long([5] * 11, 200))}
    made = bucketed(streams=streams, paired=("forget",))
    for t in range(25):
        assert names(made.step(t)["forget"]) == [200 + i for i in names(made.step(t)["idk"])]


def test_buckets_smaller_than_the_longest_row_are_refused() -> None:
    text = (
        r"^optim\.batch_tokens=8 is invalid: expected at least 9, the tokens of the longest row of the stream "
        r"'forget', or null for steps of optim\.global_batch_size rows\. Did you mean 9\?$"
    )
    with pytest.raises(UserError, match=text):
        bucketed(batch_tokens=8)
    assert bucketed(batch_tokens=9).steps_per_epoch == 8
    with pytest.raises(ValueError, match=r"^rows that differ between epochs also differ in length"):
        plan(streams={"learn": StreamData(rows(0, 5), [rows(5, 6)])}, epochs=1, batch_tokens=9)


def test_micro_batches_of_tokens_by_hand() -> None:
    batch = {"a": long([3, 2, 6, 4, 2, 5]), "b": long([20, 2], 100)}
    # 2 * 6 and 3 * 4 are 12, and 3 * 6 would be 18; the row of 20 goes alone
    whole = shard_token_batches(batch, rank=0, world=1, tokens=12, paired=())
    assert [(sizes(part["a"]), sizes(part["b"])) for part in whole] == [([6, 5], [20]), ([4, 3, 2], [2]), ([2], [])]
    first, second = (shard_token_batches(batch, rank=rank, world=2, tokens=12, paired=()) for rank in (0, 1))
    assert [sizes(part["a"]) for part in first] == [[6, 4], [2]]  # every other one of 6 5 4 3 2 2
    assert [sizes(part["a"]) for part in second] == [[5, 3], [2]]
    assert [sizes(part["b"]) for part in second] == [[2], []]


def test_paired_rows_stay_together_and_neither_stream_exceeds_the_tokens() -> None:
    batch = {"idk": long([2, 3, 2, 9]), "retain": long([4, 5, 6, 7], 50), "forget": long([8, 2, 3, 4], 100)}
    parts = shard_token_batches(batch, rank=0, world=1, tokens=16, paired=("forget",))
    # by the longer of both: 9, 8, 3, 3; (9, 4) and (2, 8) make 2 * 9 > 16, (2, 8) and (3, 2) 2 * 8, with (2, 3) 3 * 8
    assert [names(part["idk"]) for part in parts] == [[3], [0, 1], [2]]
    assert [names(part["forget"]) for part in parts] == [[103], [100, 101], [102]]
    assert [sizes(part["retain"]) for part in parts] == [[7, 6], [5, 4], []]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("tokens", [1, 10, 1000])
def test_shares_by_tokens_hold_each_row_exactly_once(world: int, tokens: int) -> None:
    rng = random.Random(world)
    batch = {"idk": long(rng.choices(range(1, 12), k=9)), "retain": long(rng.choices(range(1, 12), k=4), 100)}
    batch["forget"] = long(rng.choices(range(1, 12), k=9), 200)
    shares = [
        shard_token_batches(batch, rank=rank, world=world, tokens=tokens, paired=("forget",)) for rank in range(world)
    ]
    for name, whole in batch.items():
        parts = [part[name] for mine in shares for part in mine]
        assert sorted(names(joined(parts))) == names(whole)
        assert all(len(part) * max(sizes(part)) <= tokens for part in parts if len(part) > 1)
    for mine in shares:
        assert len(joined(part["idk"] for part in mine)) in (9 // world, -(-9 // world))
        assert all([200 + i for i in names(part["idk"])] == names(part["forget"]) for part in mine)


def test_a_process_without_rows_still_takes_part_by_tokens() -> None:
    assert shard_token_batches({"a": rows(0, 1)}, rank=2, world=3, tokens=4, paired=()) == [{"a": []}]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("micro", [1, 2, 5])
def test_shares_hold_each_row_exactly_once(world: int, micro: int) -> None:
    batch = {"forget": rows(0, 7), "retain": rows(100, 104)}
    shares = [shard_micro_batches(batch, rank=rank, world=world, micro=micro) for rank in range(world)]
    for name, whole in batch.items():
        parts = [part[name] for mine in shares for part in mine]
        assert sorted(names(joined(parts))) == names(whole)
        assert max(len(part) for part in parts) <= micro
    assert len(shares[0]) == ceil(ceil(7 / world) / micro)  # the first process has ceil(7 / world) forget rows


def test_a_process_without_rows_still_takes_part() -> None:
    assert shard_micro_batches({"a": rows(0, 1)}, rank=2, world=3, micro=4) == [{"a": []}]


def test_counts_by_hand() -> None:
    # Rows 0..3 score 1, 2, 3, 1 tokens.
    assert counts({"a": rows(0, 4), "b": rows(2, 3)}) == {"a": {"token": 7, "row": 4}, "b": {"token": 3, "row": 1}}


def test_no_epochs_are_no_steps() -> None:
    assert plan(epochs=0).total_steps == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"streams": {"forget": StreamData(rows(0, 2)), "retain": StreamData([])}}, "the stream 'retain' has no rows"),
        (
            {"global_batch_size": 0},
            r"^optim\.global_batch_size=0 is invalid: .* Did you mean 1\?$",
        ),
        ({"epochs": -1}, r"^optim\.epochs=-1 is invalid: .* Did you mean 0\?$"),
        (
            {"streams": {"a": StreamData(rows(0, 2), [rows(5, 6)])}, "epochs": 2},
            "the stream 'a' has fresh rows for 1 epochs, but optim.epochs=2",
        ),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(**changes)
