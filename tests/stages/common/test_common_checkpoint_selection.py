from __future__ import annotations

from pathlib import Path

import pytest
from helpers.common import runtime
from helpers.damages import every_damage, harm

from meow_lightning.evaluation.checkpoint_selection import Epoch
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.checkpoint_selection import restart_if_damaged
from meow_lightning.training.callbacks.best_checkpoint import BestCheckpoint


@every_damage
@pytest.mark.parametrize("file", ["best.json", "best-6.safetensors"])
def test_a_training_whose_best_epoch_was_damaged_begins_anew(tmp_path: Path, tiny, file: str, damage: str) -> None:
    work = StageContext(stage="unlearn", label="", folder=tmp_path, settings={}, inputs={}, needs={}, runtime=runtime())
    resume = tmp_path / "resume"
    resume.mkdir()
    (resume / "last.ckpt").write_text("a checkpoint")
    (resume / "reference-forget.json").write_text("kept")
    best = BestCheckpoint(resume)
    best.offer(Epoch(step=6, utility=0.5, log10_p=0.0, excess_recall=0.0), tiny)
    restart_if_damaged(work, best)
    assert {"best.json", "best-6.safetensors", "last.ckpt"} <= {path.name for path in resume.iterdir()}
    assert work.manifest_entries() == {}
    harm(resume / file, damage)
    restart_if_damaged(work, best)
    assert [path.name for path in resume.iterdir()] == ["reference-forget.json"]
    assert work.manifest_entries() == {
        "notes": ["the best epoch so far was damaged on the disk, so training was restarted"]
    }
