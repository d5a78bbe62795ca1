from __future__ import annotations

import json

import pytest
from helpers.common import runtime
from helpers.damages import every_damage, harm

from meow_lightning.stages import base as module
from meow_lightning.stages.base import StageContext, mixed_versions
from meow_lightning.stages.common.shards import PARTS, Parts
from meow_lightning.store.jsonl import read_lines, write_lines

RUNTIME = runtime(generation_batch_size=2)


@pytest.fixture
def work(tmp_path) -> StageContext:
    return StageContext(
        stage="score", label="target", folder=tmp_path, settings={"a": 1}, inputs={"b": [2]},
        needs={"model": tmp_path / "model"}, runtime=RUNTIME,
    )  # fmt: skip


def test_a_task_survives_the_way_through_json(work):
    assert StageContext.from_spec(json.loads(json.dumps(work.to_spec()))) == work


def test_progress_is_written_at_most_a_few_times_a_second_and_at_the_end(work, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])

    def said() -> int:
        return json.loads((work.folder / "progress.json").read_text())["done"]

    work.progress(1, 9, "texts")
    work.progress(2, 9, "texts")
    assert said() == 1
    now[0] += 0.3
    work.progress(3, 9, "texts")
    assert said() == 3
    work.progress(9, 9, "texts")
    assert said() == 9


def test_progress_tells_the_rate_of_this_making_behind_its_first_unit(work, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    said = []
    for done in (5, 9, 13, 17, 19):  # 4 units in 2 seconds, the first 5 in no time
        work.progress(done, 20, "steps")
        said.append(json.loads((work.folder / "progress.json").read_text()))
        now[0] += 2 if done < 17 else 1
    assert [each["rate"] for each in said] == [None, None, None, 2.0, 2.0]
    assert said[1] == {"done": 9, "total": 20, "unit": "steps", "time": 102.0, "rate": None}


def test_only_the_first_process_tells_progress(work, monkeypatch):
    monkeypatch.setenv("MEOW_DRIVER", "1")
    monkeypatch.setenv("RANK", "1")
    work.progress(9, 9, "texts")
    assert not (work.folder / "progress.json").exists()


def test_log_appends_points(work):
    work.log({"step": 1, "loss": 2.0})
    work.log({"step": 2, "loss": 1.0})
    assert list(read_lines(work.folder / "metrics.jsonl")) == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]


def test_read_lines_leaves_out_a_line_that_a_kill_cut_off(tmp_path):
    (tmp_path / "a").write_text('{"x": 1}\n{"x": ')
    assert list(read_lines(tmp_path / "a")) == [{"x": 1}]
    assert list(read_lines(tmp_path / "none")) == []


def test_write_lines_is_whole_or_not_at_all(tmp_path):
    write_lines(tmp_path / "a", [{"x": "é"}])
    with pytest.raises(TypeError):
        write_lines(tmp_path / "a", [{"x": 1}, {"x": object()}])
    assert (tmp_path / "a").read_text(encoding="utf-8") == '{"x": "é"}\n'


def test_parts_go_on_after_a_kill_in_the_middle_of_a_line(tmp_path):
    Parts(tmp_path, index="i", name=PARTS).add([{"i": 2, "text": "two"}])
    with (tmp_path / "part-0.jsonl").open("a") as file:
        file.write('{"i": 0, "te')
    parts = Parts(tmp_path, index="i", name=PARTS)
    assert sorted(parts.done) == [2]
    parts.add([{"i": 0, "text": "zero"}])
    assert parts.merge(tmp_path / "rows.jsonl") == [{"text": "zero"}, {"text": "two"}]
    assert list(read_lines(tmp_path / "rows.jsonl")) == [{"text": "zero"}, {"text": "two"}]
    assert sorted(Parts(tmp_path, index="i", name=PARTS).done) == [
        0,
        2,
    ]  # a run that is killed before it seals has lost nothing


@every_damage
def test_damaged_finished_rows_are_recomputed_and_reported(work, damage):
    rows = [{"i": number, "score": number / 8} for number in range(8)]
    work.parts(index="i").add(rows)
    harm(work.folder / "part-0.jsonl", damage)
    parts = work.parts(index="i")
    assert all(row == rows[number] for number, row in parts.done.items())
    assert len(parts.done) < 8
    parts.add(row for row in rows if row["i"] not in parts.done)
    assert parts.merge(work.folder / "rows.jsonl") == [{"score": number / 8} for number in range(8)]
    cut = damage in ("truncated", "zeros", "zeros at the end", "empty")  # as a kill cuts off, which needs no word
    said = work.manifest_entries().get("notes", [])
    assert (
        [note.partition(" ")[2] for note in said] == []
        if cut
        else ["finished rows were damaged on the disk and were computed again"]
    )


@every_damage
def test_damaged_notes_and_counts_are_dropped_and_the_next_ones_are_read(work, damage):
    for number in range(4):
        work.report_counts(number, windows=5)
    harm(work.folder / "notes-0.jsonl", damage)
    work.report_counts(9, windows=7)
    told = work.manifest_entries()
    assert told["counts"]["windows"] in range(7, 7 + 20, 5)
    cut = damage in ("truncated", "zeros", "zeros at the end", "empty")
    assert ("notes" in told) == (not cut)


def test_parts_of_all_processes_are_merged_in_order(tmp_path, monkeypatch):
    for rank, number in ((0, 1), (1, 0), (2, 2)):
        monkeypatch.setenv("MEOW_DRIVER", "1")
        monkeypatch.setenv("RANK", str(rank))
        Parts(tmp_path, index="i", name=PARTS).add([{"i": number, "by": rank}])
    (tmp_path / "part-2.jsonl").open("a").write('{"i": 3')
    monkeypatch.setenv("RANK", "0")
    parts = Parts(tmp_path, index="i", name=PARTS)  # fewer processes than before
    assert sorted(parts.done) == [0, 1, 2]
    assert [row["by"] for row in parts.merge(tmp_path / "rows.jsonl")] == [1, 0, 2]


def test_notes_are_reported_once_and_counts_add_up_over_processes_and_kills(work, monkeypatch):
    assert work.manifest_entries() == {}
    for number in (0, 1):
        monkeypatch.setattr(module, "rank", lambda number=number: number)
        work.warn("memory ran out")
        work.report_counts(number, windows=5, alone=number)
    work.report_counts(2, windows=2)
    work.report_counts(0, windows=5)  # a killed run had counted this row already
    assert work.manifest_entries() == {"notes": ["memory ran out"], "counts": {"windows": 12, "alone": 1}}


def test_a_line_that_a_kill_cut_off_is_no_trouble(work):
    work.report_counts(0, windows=5)
    with (work.folder / "notes-0.jsonl").open("a") as file:
        file.write('{"row": 1, "tal')
    work.report_counts(1, windows=3)
    assert work.manifest_entries() == {"counts": {"windows": 8}}


def made_by(stage: str, label: str = "", **packages: str) -> dict:
    return {"stage": stage, "label": label, "python": "3.13.1", "packages": packages}


def test_results_of_several_versions_are_reported_by_library():
    manifests = [
        made_by("finetune", "base", torch="2.8", numpy="2.0"), made_by("finetune", "target", torch="2.8", numpy="2.0"),
        made_by("answer", "target", torch="2.8", numpy="2.0"), made_by("evaluate", torch="2.9", numpy="2.0"),
    ]  # fmt: skip
    assert mixed_versions(manifests) == [
        "Results of different library versions were used together: torch 2.8 (finetune base, finetune target and 1 "
        "more) and 2.9 (evaluate); cache=refresh computes all of them again."
    ]
    assert mixed_versions(manifests[:3]) == []
    assert mixed_versions([{"stage": "answer", "label": ""}, manifests[0]]) == []  # of a store that told nothing
