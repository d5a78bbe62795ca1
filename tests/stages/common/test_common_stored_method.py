from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.assistant import Assistant

from meow_lightning.config.methods import build_method
from meow_lightning.errors import UserError
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.npo import Npo
from meow_lightning.methods.task_vector import TaskVector
from meow_lightning.models.load import load_model
from meow_lightning.models.pretrained_folder import problem
from meow_lightning.stages.common.stored_method import has_own_inference, method_of, write_method

NODE = {"_target_": "helpers.assistant.Assistant", "weight": 0.5}


def test_a_plain_method_leaves_no_trace(tmp_path: Path) -> None:
    eul = build_method("eul")  # writes further files beside a plain model
    for method in (Npo(beta=0.1), TaskVector(alpha=1.0), BaseMethod(), eul):
        assert not has_own_inference(method)
        write_method(tmp_path, method, {"_target_": "unused"})
    assert not [*tmp_path.iterdir()]
    assert type(method_of(tmp_path, allow=())) is BaseMethod


def test_a_method_with_its_own_inference_is_found_again(tmp_path: Path) -> None:
    write_method(tmp_path, Assistant(weight=0.5), NODE)
    found = method_of(tmp_path, allow=("helpers",))
    assert isinstance(found, Assistant)
    assert found.weight == 0.5


def test_its_package_must_be_trusted(tmp_path: Path) -> None:
    write_method(tmp_path, Assistant(weight=0.5), NODE)
    with pytest.raises(UserError, match=r"trusted_packages=\[helpers\]$"):
        method_of(tmp_path, allow=())


@pytest.mark.parametrize(
    "content",
    ["{", "[]", json.dumps({"_target_": "meow_lightning.models.tiny.llama", "vocab_size": 10})],
)
def test_anything_but_a_method_is_damage(tmp_path: Path, content: str) -> None:
    (tmp_path / "method.json").write_text(content)
    with pytest.raises(UserError, match=r"method.json is damaged: "):
        method_of(tmp_path, allow=())


def test_such_a_model_is_not_taken_for_a_plain_one(tmp_path: Path, tiny) -> None:
    tiny.save_pretrained(tmp_path)
    assert problem(tmp_path) is None
    write_method(tmp_path, Assistant(weight=0.5), NODE)
    assert "its own inference" in str(problem(tmp_path))
    with pytest.raises(UserError, match=r"its own inference \(method.json\)"):
        load_model(tmp_path, dtype="float32", attention="sdpa")
