from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.common import runtime
from safetensors.torch import save_file

from meow_lightning.stages import finetune, unlearn
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.resuming import drop_damaged
from meow_lightning.stages.finetune import Finetune
from meow_lightning.training.fit import CHECKPOINT_KEYS

EPOCH = {"step": 5, "utility": 0.5, "log10_p": -1.0, "said": 0.25}


@pytest.fixture
def work(tmp_path: Path) -> StageContext:
    """A stage that was interrupted, with all that a training may leave."""
    resume = tmp_path / "resume"
    resume.mkdir()
    torch.save(dict.fromkeys(CHECKPOINT_KEYS, 3) | {"state_dict": {"w": torch.arange(4000.0)}}, resume / "last.ckpt")
    (resume / "best.json").write_text(json.dumps(EPOCH))
    save_file({"w": torch.ones(3)}, resume / "best-5.safetensors")
    return StageContext(
        stage="unlearn", label="unlearned", folder=tmp_path, settings={}, inputs={}, needs={}, runtime=runtime()
    )


def test_readable_files_stay(work: StageContext) -> None:
    names = sorted(path.name for path in (work.folder / "resume").iterdir())
    drop_damaged(work)
    assert sorted(path.name for path in (work.folder / "resume").iterdir()) == names
    assert work.manifest_entries() == {}


def test_nothing_to_resume_is_nothing_to_drop(work: StageContext) -> None:
    (work.folder / "resume" / "last.ckpt").unlink()
    drop_damaged(work)
    assert (work.folder / "resume" / "best.json").exists()
    assert work.manifest_entries() == {}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("break_", [cut, empty, zeros])
def test_unreadable_files_are_dropped_with_their_folder_and_reported(work: StageContext, break_: Any) -> None:
    break_(work.folder / "resume" / "last.ckpt")
    drop_damaged(work)
    assert not (work.folder / "resume").exists()
    (note,) = work.manifest_entries()["notes"]
    assert note.startswith("the checkpoint of an interrupted run cannot be used (last.ckpt: ")
    assert note.endswith("); training was restarted")


def test_a_flipped_bit_in_a_weight_is_found_by_its_checksum(work: StageContext) -> None:
    path = work.folder / "resume" / "last.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    drop_damaged(work)
    (note,) = work.manifest_entries()["notes"]
    assert "checksum" in note or "magic" in note


def test_a_training_looks_before_it_goes_on(work: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[StageContext] = []

    class Looked(Exception):  # noqa: N818 - ends the stage before its work
        pass

    def look(given: StageContext) -> None:
        looked.append(given)
        raise Looked

    monkeypatch.setattr(finetune, "drop_damaged", look)
    with pytest.raises(Looked):
        Finetune().run(work)
    from meow_lightning.stages.unlearn import Unlearn

    monkeypatch.setattr(unlearn, "drop_damaged", look)
    with pytest.raises(Looked):
        Unlearn().run(work)
    assert looked == [work, work]
