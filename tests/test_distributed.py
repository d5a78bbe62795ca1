from __future__ import annotations

import pytest
import torch

from meow_lightning import distributed
from meow_lightning.errors import UserError


@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_hold_every_item_exactly_once(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(distributed.DRIVER, "1")
    monkeypatch.setenv("WORLD_SIZE", str(world))
    shares = []
    for rank in range(world):
        monkeypatch.setenv("RANK", str(rank))
        shares += distributed.shard(range(10))
    assert sorted(shares) == list(range(10))


def test_groups_by_hand() -> None:
    assert distributed.group_by([3, 8, 5, 2], key=lambda item: item % 2) == [[3, 5], [8, 2]]
    assert distributed.group_by([], key=len) == []


def test_chunk_groups_by_hand() -> None:
    groups = [[3], [1, 1], [4], [2]]
    assert list(distributed.chunk_groups(groups, size=lambda item: item, minimum=5)) == [[3, 1, 1], [4, 2]]
    assert list(distributed.chunk_groups(groups, size=lambda item: item, minimum=3)) == [[3], [1, 1, 4], [2]]
    assert list(distributed.chunk_groups([], size=len, minimum=2)) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_reported() -> None:
    text = r"^trainer\.accelerator=gpu needs a GPU, but torch sees none; set trainer=cpu or install a CUDA build$"
    with pytest.raises(UserError, match=text):
        distributed.check("gpu", 1)
    distributed.check("cpu", 9)
    distributed.check("auto", 2)
    assert distributed.device("auto") == torch.device("cpu")


def test_a_launcher_around_the_program_makes_no_job_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv(distributed.DRIVER, raising=False)
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.shard(range(3)) == [0, 1, 2]
