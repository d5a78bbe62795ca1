from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.common import artifact

from meow_lightning.console import plan
from meow_lightning.console.plan import (
    Planned,
    Step,
    elapsed,
    format_range,
    gpu_hours,
    plan_rows,
    plan_sum,
    shared_artifacts,
    show_plan,
    show_sweep_plan,
    sweep_rows,
)
from meow_lightning.planning.pending_requests import PendingRequests
from meow_lightning.resources.requirements import NOTHING, Requirements
from meow_lightning.resources.training_memory import Memory
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store

BASE = artifact("finetune", "base")
TARGET, RETAIN = artifact("finetune", "target", BASE), artifact("finetune", "retain", BASE)
ONE, TWO = artifact("unlearn", "one", TARGET), artifact("unlearn", "two", TARGET)
REPORT = artifact("report", "", ONE, RETAIN)
MEMORY = Memory(weights=0, gradients=0, optimizer=0, activations=0, logits=0, cache=0, program=2_000_000)
SECONDS: dict[str, float | None] = {"base": 40.0, "target": 60.0, "retain": 50.0, "one": 30.0, "two": 20.0, "": None}


SOURCES = {"base": "took", "target": "far", "retain": "size", "one": "far", "two": "far", "": "like"}


class Fake:
    """A preflight that knows times by label; ``base`` was made, by the present code or by other."""

    def __init__(
        self, root: Path, *, parallel_stages: int = 2, devices: int = 1, on_gpu: bool = False, other_code: bool = False
    ) -> None:
        self.trainer, self._other_code = SimpleNamespace(parallel_stages=parallel_stages), other_code
        self.store, self.available_memory, self.on_gpu, self._devices = (
            Store(root=root, cache="use"),
            5_000_000,
            on_gpu,
            devices,
        )

    def outlook(self, what: Artifact) -> Requirements:
        memory = replace(MEMORY, weights=int(SECONDS[what.label] or 0))
        return replace(NOTHING, memory=memory if what.label not in ("", "base") else None, disk=1000, passing=10)

    def memory(self, what: Artifact) -> tuple[int, str] | None:
        memory = self.outlook(what).memory
        return None if memory is None else (memory.total, "measured" if what.label == "two" else "estimated")

    def time(self, what: Artifact) -> tuple[float | None, str]:
        seconds = SECONDS[what.label]
        return seconds, "took" if what.label == "base" else "like" if seconds else ""

    def made_by_other_code(self, what: Artifact) -> bool:
        return self._other_code and what.label == "base"

    def devices(self, what: Artifact) -> int:
        return 0 if what.stage == "report" else self._devices

    def disk(self, outlooks) -> int:
        return sum(each.disk for each in outlooks)

    def requests(self, artifacts) -> list[PendingRequests]:
        return [PendingRequests("teacher", 4, 12, 100)] * (TARGET in artifacts or TWO in artifacts)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch) -> Any:
    """Two runs that share base and target; the second goes by another number."""
    monkeypatch.setattr(plan, "free_disk", lambda folder: 9_000_000)

    def build(**changes: Any) -> list[Planned]:
        preflight: Any = Fake(tmp_path, **changes)
        return [
            Planned("method=one", preflight, [BASE, TARGET, ONE, RETAIN, REPORT]),
            Planned("method=two", preflight, [BASE, TARGET, TWO]),
        ]

    return build


def test_shared_results_are_computed_by_the_first_run(runs) -> None:
    assert shared_artifacts(runs()) == [[TARGET, ONE, RETAIN, REPORT], [TWO]]


def test_a_sweeps_rows_are_what_is_to_be_made_in_its_order(runs, tmp_path: Path) -> None:
    (tmp_path / "unlearn" / f"{TWO.key}.partial").mkdir(parents=True)
    assert sweep_rows(runs()) == [
        ["stage", "of", "key", "state", "time", "memory", "disk", "for"],
        [
            "finetune",
            "target",
            TARGET.key,
            "compute",
            "may take 60 s",
            "2.0 MB (estimated)",
            "1.0 kB",
            "method=one and 1 more",
        ],
        ["unlearn", "one", ONE.key, "compute", "may take 30 s", "2.0 MB (estimated)", "1.0 kB", "method=one"],
        ["finetune", "retain", RETAIN.key, "compute", "may take 50 s", "2.0 MB (estimated)", "1.0 kB", "method=one"],
        ["report", "", REPORT.key, "compute", "", "", "1.0 kB", "method=one"],
        ["unlearn", "two", TWO.key, "resume", "may take 20 s", "2.0 MB (measured)", "1.0 kB", "method=two"],
    ]


def test_a_runs_rows_hold_what_is_there_too(runs) -> None:
    assert [row[3:] for row in plan_rows(runs()[1])][1:] == [
        ["cached", "took 40 s", ""],
        ["compute", "may take 60 s", "2.0 MB (estimated)"],
        ["compute", "may take 20 s", "2.0 MB (measured)"],
    ]  # fmt: skip


def test_results_of_other_code_are_marked_and_counted(runs, capsys) -> None:
    one, two = runs(other_code=True)
    assert [row[3] for row in plan_rows(two)] == ["state", "cached*", "compute", "compute"]
    assert "stages: 5 to compute, 1 cached (1 computed by other code)" in plan_sum([one, two])
    assert shared_artifacts([two]) == [[TARGET, TWO]]  # it is not computed again
    done = two._replace(artifacts=[BASE])
    assert plan_sum([done]) == ["nothing to compute: everything is cached (1 computed by other code)"]
    show_plan(two, prompt="[INST] {question}")
    assert "* computed by other code; cache=refresh recomputes it" in capsys.readouterr().out
    show_plan(runs()[1], prompt="[INST] {question}")
    shown = capsys.readouterr().out
    assert "other code" not in shown
    assert "prompt of a question: [INST] {question}\n" in shown


def test_totals_count_shared_stages_once(runs, tmp_path: Path) -> None:
    # 60 + 30 + 50 + 20 = 160 seconds; with two jobs 60 beside 50, 30 from 60 on, and 20 in the second run: 110
    assert plan_sum(runs()) == [
        "requests to teacher: 8 to 24, replies of at most 100 tokens",
        "stages: 5 to compute, 1 cached",
        "time: 3 min if stages run sequentially, 2 min with trainer.parallel_stages=2, plus 1 stage of unknown time "
        "(no similar result in the store)",
        "memory: 2.0 MB (estimated) at most per stage, 5.0 MB free",
        f"disk: 5.0 kB at most, 9.0 MB free at {tmp_path}",
    ]


def test_one_job_has_one_time_and_gpus_have_hours(runs) -> None:
    said = plan_sum(runs(parallel_stages=1, devices=4, on_gpu=True))
    assert (
        "time: 3 min if stages run sequentially, plus 1 stage of unknown time (no similar result in the store)" in said
    )
    assert "GPU time: 0.18 GPU-hours" in said  # 160 seconds on 4 devices


def test_stages_over_several_devices_run_alone(runs) -> None:
    # 60, 30 and 50 one after the other in the first run, 20 in the second: 160 seconds, with one device each 110
    assert ", 3 min with trainer.parallel_stages=2" in plan_sum(runs(devices=4))[2]
    assert ", 2 min with trainer.parallel_stages=2" in plan_sum(runs(devices=1))[2]


def test_gpus_without_a_known_time_have_none(runs, monkeypatch) -> None:
    monkeypatch.setitem(SECONDS, "one", None)
    said = plan_sum(runs(on_gpu=True))
    assert "GPU time: 0.04 GPU-hours, plus 1 stage of unknown time" in said  # 60 + 50 + 20 seconds
    for label in ("target", "retain", "two"):
        monkeypatch.setitem(SECONDS, label, None)
    said = plan_sum(runs(on_gpu=True))
    assert {
        "time: unknown until a first batch is measured",
        "GPU time: unknown until a first batch is measured",
    } <= set(said)


def test_guesses_are_ranges_and_marked_as_guesses(runs, monkeypatch) -> None:
    """Where a stage's time is taken from a model of another size it may be a third or three times of it."""
    monkeypatch.setattr(Fake, "time", lambda self, what: (SECONDS[what.label] or 9.0, SOURCES[what.label]))
    rows = [row[4] for row in plan_rows(runs()[0])][1:]
    assert rows == [
        "took 40 s",
        "20 s to 3 min (guess)",
        "10 s to 2 min (guess)",
        "may take (by size) 50 s",
        "may take 9 s",
    ]
    # 60 + 30 + 20 seconds are guesses, 50 + 9 are not: 96 to 389 in all. With two jobs the target takes 20 to 180
    # beside the retain model's 50, then come 10 to 90 and 9: 59 or 279; the second run adds 7 or 60.
    said = plan_sum(runs(on_gpu=True, devices=4))
    assert "time: 2 to 6 min if stages run sequentially" in said[2]
    assert said[2].endswith(", extrapolated from models of another size")
    assert "GPU time: 0.10 to 0.42 GPU-hours" in said  # (110 / 3 + 50) * 4 / 3600 and (110 * 3 + 50) * 4 / 3600
    said = plan_sum(runs())
    assert ", 66 s to 6 min with trainer.parallel_stages=2, extrapolated" in said[2]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (10.0, 90.0, "10 s to 2 min"),
        (10.0, 80.0, "10 to 80 s"),
        (20.0, 180.0, "20 s to 3 min"),
        (7200.0, 64_800.0, "about 2 to 18 h"),
        (1200.0, 10_800.0, "20 min to 3 h"),
        (5.0, 5.2, "5 s"),
    ],
)
def test_two_times_as_one_text(low: float, high: float, words: str) -> None:
    assert format_range(low, high) == words


def test_work_of_which_nothing_alike_was_made_is_unknown(runs, monkeypatch) -> None:
    monkeypatch.setitem(SECONDS, "target", None)
    monkeypatch.setattr(Fake, "outlook", lambda self, what: replace(NOTHING, flops=float(what.label == "target")))
    assert [row[4] for row in plan_rows(runs()[0])][1:] == [
        "took 40 s",
        "unknown",
        "may take 30 s",
        "may take 50 s",
        "",
    ]


def test_nothing_to_make_is_reported(tmp_path: Path) -> None:
    preflight: Any = Fake(tmp_path)
    done = [Planned("one", preflight, [BASE]), Planned("two", preflight, [BASE])]
    assert sweep_rows(done) == [["stage", "of", "key", "state", "time", "memory", "disk", "for"]]
    assert plan_sum(done) == ["nothing to compute: everything is cached"]


def test_runs_that_cannot_run_stand_last(runs, capsys) -> None:
    show_sweep_plan(runs(), [("seed=-1", "it is too small")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "plan of 2 runs"
    assert lines[-1] == "failed: seed=-1: it is too small"
    show_sweep_plan([], [("seed=-1", "it is too small")] * 5)
    assert "stages:" not in capsys.readouterr().out


def test_provided_models_are_linked_not_computed(runs, monkeypatch) -> None:
    monkeypatch.setattr(Fake, "time", lambda self, artifact: (None, ""))
    given = replace(TARGET, settings={"given": {"weights": "0123"}})
    planned = runs()[0]._replace(artifacts=[BASE, given])
    assert [row[3] for row in plan_rows(planned)][1:] == ["compute", "link"]
    assert "stages: 1 to compute, 1 to link, 0 cached" in plan_sum([planned])


def test_hours_of_gpus_are_time_times_devices() -> None:
    assert gpu_hours([(1800.0, 1), (900.0, 8)]) == 0.5 + 2.0


def lot(slots: int, wide: int) -> list[Step]:
    """A diamond: a, then b and c, then d; c may start beside ``wide`` - 1 others."""
    return [
        Step("a", ["there"], 10.0, slots), Step("b", ["a"], 20.0, slots), Step("c", ["a"], 30.0, wide),
        Step("d", ["b", "c"], 5.0, slots),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("slots", "wide", "seconds"),
    [
        (1, 1, 65.0),  # one after the other
        (2, 2, 45.0),  # 10, then 20 beside 30, then 5
        (2, 1, 65.0),  # c waits until it is alone: 10, 20, 30, 5
    ],
)
def test_elapsed_time_follows_needs_and_slots(slots: int, wide: int, seconds: float) -> None:
    assert elapsed(lot(slots, wide)) == seconds


def test_no_steps_take_no_time_and_unknown_ones_none() -> None:
    assert elapsed([]) == 0.0
    assert elapsed([Step("a", [], 0.0, 1), Step("b", ["a"], 3.0, 1)]) == 3.0
