from __future__ import annotations

import pytest

from meow_lightning.data.batch_plan import BatchPlan, StreamData
from meow_lightning.training.datamodule import Steps
from meow_lightning.types import Encoded


def ids(batch) -> list[int]:
    """The first tokens of the rows that are there."""
    return [int(row[0]) for row, scored in zip(batch.input_ids_BT, batch.loss_mask_BT, strict=True) if scored.any()]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize(("micro", "tokens"), [(1, None), (2, None), (4, None), (1, 3), (1, 7)])
def test_all_processes_make_as_many_passes_and_see_every_row_once(world: int, micro: int, tokens: int | None) -> None:
    rows = {name: [Encoded((first + i, 1, 2), 1) for i in range(7)] for name, first in (("a", 10), ("b", 30))}
    streams = {name: StreamData(each) for name, each in rows.items()}
    plan = BatchPlan(streams=streams, global_batch_size=4, batch_tokens=None, epochs=1, seed=0, paired=())
    shares = [
        list(
            Steps(
                plan=plan,
                phase=lambda _: tuple(plan.streams),
                start=0,
                rank=rank,
                world=world,
                micro_batch_size=micro,
                micro_batch_tokens=tokens,
                pad_id=0,
            )
        )
        for rank in range(world)
    ]
    most = micro if tokens is None else tokens // 3  # every row has three tokens
    for t in range(plan.total_steps):
        batch = plan.step(t)
        assert len({len(share[t]["micros"]) for share in shares}) == 1
        assert sum(share[t]["tokens"] for share in shares) == sum(
            len(row.ids) for each in batch.values() for row in each
        )
        for name in batch:
            seen = [first for share in shares for part in share[t]["micros"] for first in ids(part[name])]
            assert sorted(seen) == sorted(row.ids[0] for row in batch[name])
            assert all(len(part[name].input_ids_BT) <= most for share in shares for part in share[t]["micros"])


def steps(phase, *, epochs: int = 3) -> list[dict]:
    rows = {name: [Encoded((first + i, 1, 2), 1) for i in range(4)] for name, first in (("a", 10), ("b", 30))}
    streams = {name: StreamData(each) for name, each in rows.items()}
    plan = BatchPlan(streams=streams, global_batch_size=2, batch_tokens=None, epochs=epochs, seed=0, paired=())
    return list(
        Steps(
            plan=plan, phase=phase, start=0, rank=0, world=1, micro_batch_size=4, micro_batch_tokens=None, pad_id=0
        )
    )  # fmt: skip


def test_an_epoch_reads_the_streams_of_its_phase() -> None:
    everything = steps(lambda _: ("a", "b"))
    phased = steps(lambda epoch: (("a",), ("b",), ("a", "b"))[epoch])
    assert [{*step["counts"]} for step in phased] == [{"a"}, {"a"}, {"b"}, {"b"}, {"a", "b"}, {"a", "b"}]
    for step, whole in zip(phased, everything, strict=True):  # the rows are those that the plan has for the step
        for name, rows in step["micros"][0].items():
            assert ids(rows) == ids(whole["micros"][0][name])


@pytest.mark.parametrize("phase", [(), ("c",), ("a", "c")])
def test_a_phase_names_streams_of_the_plan(phase: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"^the phase of epoch 0 has the streams "):
        steps(lambda _: phase)
