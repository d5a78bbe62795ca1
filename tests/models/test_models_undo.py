from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from meow_lightning.errors import UserError
from meow_lightning.models.undo import restore, write_undo

UNDO = "undo.safetensors"
WEIGHTS = {
    "a": torch.tensor([[1.5, -2.0, 0.0], [float("nan"), 4.0, -0.0]]),
    "b": torch.tensor([0.25, -0.5], dtype=torch.bfloat16),
    "c": torch.tensor([7, 8]),
}


def store(folder: Path, weights: dict[str, torch.Tensor], *, shards: int = 1) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    if shards == 1:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    names = {name: f"model-{number}.safetensors" for number, name in enumerate(weights)}
    for name, file in names.items():
        save_file({name: weights[name]}, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder


def edited() -> dict[str, torch.Tensor]:
    weights = {name: weight.clone() for name, weight in WEIGHTS.items()}
    weights["a"][0, 1] = weights["a"][1, 2] = weights["a"][1, 0] = 0.0  # also of -0 and of NaN
    weights["b"][0] = 0.0
    return weights


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(first.view(torch.uint8), second.view(torch.uint8))


@pytest.mark.parametrize("shards", [1, 3])
def test_the_start_model_comes_back_bit_for_bit(tmp_path: Path, shards: int) -> None:
    start, model = store(tmp_path / "start", WEIGHTS), store(tmp_path / "model", edited(), shards=shards)
    assert write_undo(start, model, tmp_path / UNDO) is None
    kept = load_file(tmp_path / UNDO)
    assert {name: len(each) for name, each in kept.items()} == {
        "index/a": 3, "value/a": 3, "index/b": 1, "value/b": 1,
    }  # fmt: skip
    assert restore(model, tmp_path / UNDO, tmp_path / "back") == 4
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == sorted(path.name for path in model.iterdir())
    back = {name: each for path in (tmp_path / "back").glob("*.safetensors") for name, each in load_file(path).items()}
    assert back.keys() == WEIGHTS.keys()
    assert all(same(back[name], weight) for name, weight in WEIGHTS.items())
    if shards == 1:
        assert (tmp_path / "back/model.safetensors").read_bytes() == (start / "model.safetensors").read_bytes()


def test_names_that_lack_the_models_prefix_are_found_and_others_are_no_reason_to_fail(tmp_path: Path) -> None:
    start = store(tmp_path / "start", {"h.a": torch.tensor([1.0, 2.0])})
    model = store(tmp_path / "model", {"transformer.h.a": torch.tensor([1.0, 0.0])})
    assert write_undo(start, model, tmp_path / UNDO) is None
    assert restore(model, tmp_path / UNDO, tmp_path / "back") == 1
    other = store(tmp_path / "other", {"z": torch.tensor([1.0])})
    assert write_undo(start, other, tmp_path / "none") == "the start model has no weight z of the same shape"
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_restored_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    start, model = store(tmp_path / "start", WEIGHTS), store(tmp_path / "model", edited())
    write_undo(start, model, tmp_path / UNDO)
    with pytest.raises(UserError, match=r"model exists already; .* --to"):
        restore(model, tmp_path / UNDO, model)
    with pytest.raises(UserError, match="does not belong to the model"):
        restore(start, tmp_path / UNDO, tmp_path / "back")
    (tmp_path / UNDO).write_bytes(b"x" * 50)
    with pytest.raises(UserError, match="is damaged"):
        restore(model, tmp_path / UNDO, tmp_path / "back")
    assert {path.name for path in tmp_path.iterdir()} == {"start", "model", UNDO}
