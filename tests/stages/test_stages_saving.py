from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.common import runtime

from meow_lightning.errors import UserError
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.training import save


def work(folder: Path, **model: object) -> StageContext:
    settings = {"model": {"lora": None, "precision": "32-true", **model}}
    return StageContext(
        stage="unlearn", label="unlearned", folder=folder, settings=settings, inputs={}, needs={}, runtime=runtime()
    )


@pytest.mark.parametrize(("value", "precision"), [(float("nan"), "32-true"), (1e30, "16-true")])
def test_a_training_that_diverged_leaves_no_model(tiny, codec, tmp_path, value, precision) -> None:
    """Such a model says nothing, which would read as forgotten."""
    with torch.no_grad():
        tiny.model.layers[0].mlp.up_proj.weight[3, 4] = value
    with pytest.raises(UserError) as seen:
        save(work(tmp_path, precision=precision), tiny, codec)
    assert str(seen.value).startswith(
        "training diverged: NaN or infinite values in 1 tensor (model.layers.0.mlp.up_proj.weight) of the unlearned"
    )
    assert "a lower learning rate (optim.lr," in str(seen.value)
    assert not (tmp_path / "model").exists()


def test_a_model_of_numbers_is_saved(tiny, codec, tmp_path) -> None:
    save(work(tmp_path), tiny, codec)
    assert (tmp_path / "model" / "model.safetensors").is_file()
