from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.common import artifact

from meow_lightning.pipeline.origin import dataset_origin, origin_entry, path_digest


def test_files_are_known_by_digests_of_their_paths_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "facts").touch()
    (tmp_path / "link.jsonl").symlink_to("facts")
    node = {"_target_": "pkg.Class", "forget": "facts", "retain": "gone.jsonl", "seed": 0, "split": "forget10"}
    made = dataset_origin("jsonl", node)
    assert made == {
        "name": "jsonl", "files": {"forget": path_digest(tmp_path / "facts"), "retain": path_digest("gone.jsonl")},
    }  # fmt: skip
    assert path_digest("./facts") == path_digest(tmp_path / "link.jsonl") == made["files"]["forget"]
    assert len(made["files"]["forget"]) == 16


def test_a_result_without_a_dataset_records_none() -> None:
    plain = artifact("score", "target")
    assert origin_entry(plain) == {}
    inputs = {"dataset_name": "fictional", "dataset": {"_target_": "pkg.Class", "split": "forget10"}}
    assert origin_entry(replace(plain, inputs=inputs)) == {"dataset": {"name": "fictional", "files": {}}}
