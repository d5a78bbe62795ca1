from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from math import ceil
from typing import Any

import pytest

from meow_lightning.data.plan import Plan, Stream, counts, share
from meow_lightning.types import Encoded, UserError


def rows(first: int, last: int) -> list[Encoded]:
    """Rows told apart by their first token; row i scores 1 + i % 3 tokens."""
    return [Encoded((i, *[7] * (1 + i % 3)), 1) for i in range(first, last)]


def names(batch: list[Encoded]) -> list[int]:
    return [row.ids[0] for row in batch]


def joined(lists: Iterable[list]) -> list:
    return list(chain.from_iterable(lists))


def plan(**changes: Any) -> Plan:
    streams = {"forget": Stream(rows(0, 11)), "retain": Stream(rows(100, 107))}
    return Plan(**{"streams": streams, "batch": 4, "epochs": 5, "seed": 3, "paired": (), **changes})


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
    made = plan(streams={"a": Stream(rows(0, total))}, batch=batch)
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
    made = plan(streams={"a": Stream(rows(0, 2)), "b": Stream(rows(100, 105))}, batch=2, epochs=5)
    served = joined(names(made.step(t)["b"]) for t in range(5))
    assert Counter(served) == dict.fromkeys(range(100, 105), 2)  # 10 rows served, 5 there are


def test_paired_rows_follow_the_anchor_row_by_row() -> None:
    streams = {"idk": Stream(rows(0, 11)), "forget": Stream(rows(200, 211)), "retain": Stream(rows(100, 107))}
    made, alone = plan(streams=streams, paired=("forget",)), plan(streams={"idk": streams["idk"]})
    for t in range(15):
        step = made.step(t)
        assert names(step["forget"]) == [200 + i for i in names(step["idk"])]
        assert step["idk"] == alone.step(t)["idk"]
    with pytest.raises(ValueError, match=r"^forget is paired with idk and has another number of rows$"):
        plan(streams={**streams, "forget": Stream(rows(200, 210))}, paired=("forget",))


def test_fresh_rows_belong_to_one_epoch() -> None:
    fresh = [rows(50, 53), rows(60, 63)]
    made = plan(streams={"learn": Stream(rows(0, 5), fresh)}, batch=4, epochs=2)
    assert (made.rows_per_epoch, made.steps_per_epoch) == (8, 2)
    seen = [sorted(joined(names(made.step(2 * e + p)["learn"]) for p in range(2))) for e in range(2)]
    assert seen == [[0, 1, 2, 3, 4, 50, 51, 52], [0, 1, 2, 3, 4, 60, 61, 62]]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("micro", [1, 2, 5])
def test_shares_hold_each_row_exactly_once(world: int, micro: int) -> None:
    batch = {"forget": rows(0, 7), "retain": rows(100, 104)}
    shares = [share(batch, rank=rank, world=world, micro=micro) for rank in range(world)]
    for name, whole in batch.items():
        parts = [part[name] for mine in shares for part in mine]
        assert sorted(names(joined(parts))) == names(whole)
        assert max(len(part) for part in parts) <= micro
    assert len(shares[0]) == ceil(ceil(7 / world) / micro)  # the first process has ceil(7 / world) forget rows


def test_a_process_without_rows_still_takes_part() -> None:
    assert share({"a": rows(0, 1)}, rank=2, world=3, micro=4) == [{"a": []}]


def test_counts_by_hand() -> None:
    # Rows 0..3 score 1, 2, 3, 1 tokens.
    assert counts({"a": rows(0, 4), "b": rows(2, 3)}) == {"a": {"token": 7, "row": 4}, "b": {"token": 3, "row": 1}}


def test_no_epochs_are_no_steps() -> None:
    assert plan(epochs=0).total_steps == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"streams": {"forget": Stream(rows(0, 2)), "retain": Stream([])}}, "the stream 'retain' holds no row"),
        ({"batch": 0}, "optim.batch must be 1 or more and optim.epochs 0 or more, given: 0 and 5"),
        ({"epochs": -1}, "given: 4 and -1"),
        ({"streams": {"a": Stream(rows(0, 2), [rows(5, 6)])}, "epochs": 2}, "1 sets of fresh rows for 2 epochs"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(**changes)
