from __future__ import annotations

import json
import time

import pytest
from helpers.common import artifact

from meow_lightning.pipeline import waiting as waiting_module
from meow_lightning.pipeline.waiting import LockWaits, read_progress, waiting_line
from meow_lightning.store.lock_holders import Holder
from meow_lightning.store.store import Store

ONE = artifact("finetune", "base")


def test_the_holder_is_named_after_seconds_then_seldom(tmp_path, monkeypatch):
    clock, said = [0.0], []
    monkeypatch.setattr(waiting_module.time, "monotonic", lambda: clock[0])
    store = Store(root=tmp_path, cache="use")
    mine = LockWaits(store=store, notify=lambda _: said.append(clock[0]))
    news = []
    for second in range(2000):
        clock[0] = float(second)
        if mine.is_due(ONE):
            news.append(mine.record_refusal(ONE))
    assert said == [5, 60, 660, 1260, 1860]
    assert news.count(True) == 1
    mine.acquired(ONE)
    assert mine.is_due(ONE)
    assert mine.record_refusal(ONE)


def test_a_waiting_process_shows_progress_and_age_of_the_other_one():
    state = {"done": 3, "total": 9, "unit": "steps", "time": time.time() - 40}
    assert waiting_line(ONE, Holder(process=7, host="far", user="ada"), 12.0, state) == (
        "finetune base: waiting for 12 s (at 3 of 9 steps 40 s ago) for process 7 on far (user ada); if it hangs, "
        "ssh far kill -KILL 7 hands over to the waiting run"
    )
    assert waiting_line(ONE, None, 12.0, None) == "finetune base: waiting for 12 s for another process; see status=true"


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b'{"done": 1', b"[]", b"5", b"{}", b"\xff", b"null"])
def test_progress_that_cannot_be_read_is_none(tmp_path, content):
    (tmp_path / "progress.json").write_bytes(content)
    assert read_progress(tmp_path) is None


def test_progress_is_read_as_it_was_noted(tmp_path):
    state = {"done": 3, "total": 9, "unit": "steps", "time": 7.0, "since": 1.0, "from": 0}
    (tmp_path / "progress.json").write_text(json.dumps(state))
    assert read_progress(tmp_path) == state
