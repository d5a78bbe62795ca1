"""Ten kills at random moments of every stage; ``make kill`` does a hundred."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from chaos import STAGES, Target, at, damaged, differences, fingerprint, kill_many, picks, table, undisturbed, wipe


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc")
def test_ten_kills_leave_every_file_as_it_is_without_them(tmp_path: Path) -> None:
    reference = undisturbed(tmp_path / "undisturbed", seed=0)
    tally = kill_many(tmp_path, reference, kills=10, seed=0, report=lambda line: None)
    assert not tally.defects, table(tally)
    assert tally.kills == 10, table(tally)
    assert tally.equal == tally.comparisons >= 1, table(tally)
    assert {stage for stage, _ in tally.hits} == set(STAGES), table(tally)
    assert not list(tmp_path.glob("round-*/store"))


def lay(outputs: Path, stage: str, key: str, needs: tuple[str, ...] = ()) -> Target:
    folder = outputs / "store" / stage / key
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text(f"{key}\n")
    (folder / "metrics.jsonl").write_text('{"step": 0, "memo/seconds": 0.25, "memory_mib": 9.5, "loss": 1.5}\n')
    (folder / "manifest.json").write_text('{"files": {}, "seconds": 3}')
    return Target(stage, "", key, frozenset(needs), 1.0, 0.5)


def test_a_difference_of_any_kind_is_seen_and_times_are_none(tmp_path: Path) -> None:
    lay(tmp_path, "predict", "a")
    before, folder = fingerprint(tmp_path), tmp_path / "store" / "predict" / "a"
    (folder / "metrics.jsonl").write_text('{"step": 0, "memo/seconds": 0.75, "memory_mib": 8.5, "loss": 1.5}\n')
    (folder / "manifest.json").write_text('{"files": {}, "seconds": 4}')
    assert differences(before, fingerprint(tmp_path)) == []
    (folder / "metrics.jsonl").write_text('{"step": 0, "memo/seconds": 0.75, "loss": 1.6}\n')
    (folder / "rows.jsonl").unlink()
    (tmp_path / "store" / "predict" / "b.partial").mkdir()
    (tmp_path / "store" / "predict" / "b.partial" / "part-0.jsonl").write_text("")
    assert differences(before, fingerprint(tmp_path)) == [
        "store/predict/a/rows.jsonl is missing",
        "store/predict/b.partial/part-0.jsonl should not be there",
        "store/predict/a/metrics.jsonl differs",
    ]


def test_a_file_that_its_manifest_does_not_know_is_damage(tmp_path: Path) -> None:
    lay(tmp_path, "predict", "a")
    folder = tmp_path / "store" / "predict" / "a"
    assert damaged(tmp_path) == []
    (folder / "manifest.json").write_text(json.dumps({"files": {"rows.jsonl": {"size": 2, "sha256": "0" * 64}}}))
    assert damaged(tmp_path) == ["store/predict/a/rows.jsonl is not what its manifest says"]


def test_pruning_takes_what_was_made_from_a_result_and_nothing_else(tmp_path: Path) -> None:
    base = lay(tmp_path, "finetune", "base")
    target = lay(tmp_path, "finetune", "target", ("base",))
    retain = lay(tmp_path, "finetune", "retain", ("base",))
    answer = lay(tmp_path, "predict", "answer", ("target",))
    wipe(tmp_path, target, [base, target, retain, answer])
    assert {path.name for path in tmp_path.glob("store/*/*")} == {"base", "retain"}


def test_every_round_hits_every_stage_in_the_order_of_making() -> None:
    targets = [Target(stage, "", str(i), frozenset(), 1.0, 0.5) for i, stage in enumerate(STAGES * 2)]
    chosen = picks(targets, 10, random.Random(0))
    assert len(chosen) == 10
    assert {target.stage for target in chosen} == set(STAGES)
    assert chosen == sorted(chosen, key=targets.index)
    assert len(picks(targets, 3, random.Random(0))) == 3


def test_files_of_an_earlier_start_are_not_taken_for_progress(tmp_path: Path) -> None:
    for name, when in (("task.json", 100.0), ("part-0.jsonl", 90.0)):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (when, when))
    assert at(tmp_path, 101.0) == (False, False)
    assert at(tmp_path, 99.0) == (True, False)
    os.utime(tmp_path / "part-0.jsonl", (110.0, 110.0))
    assert at(tmp_path, 99.0) == (True, True)
    assert at(tmp_path / "missing", 99.0) == (False, False)
