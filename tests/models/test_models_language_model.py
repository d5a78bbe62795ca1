from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.library import dataset, language_model

import meow_lightning as meow

PROMPT = {"template": "Question: {question}\nAnswer:", "answer_prefix": " "}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_model(dataset()).save_pretrained(tmp_path_factory.mktemp("models") / "new" / "model")


def test_what_is_saved_is_loaded(folder: Path) -> None:
    model, saved = meow.LanguageModel.from_pretrained(folder, prompt="tiny", device="cpu"), language_model(dataset())
    assert not model.model.training
    assert all(
        one.equal(other)
        for one, other in zip(model.model.state_dict().values(), saved.model.state_dict().values(), strict=True)
    )
    assert model.encoder.encode("Who?", "Ada.") == saved.encoder.encode("Who?", "Ada.")


@pytest.mark.parametrize("prompt", ["tiny", PROMPT, PROMPT["template"], "auto", None])
def test_prompts_by_name_template_or_parts(folder: Path, prompt: str | dict[str, str | None] | None) -> None:
    encoder = meow.LanguageModel.from_pretrained(folder, prompt=prompt, device="cpu").encoder
    assert encoder.template == PROMPT["template"]
    assert encoder.answer_prefix == ("" if prompt == PROMPT["template"] else " ")


def test_a_precision_sets_the_weights(folder: Path) -> None:
    model = meow.LanguageModel.from_pretrained(folder, precision="bf16-mixed", device="cpu")
    assert model.model.dtype == torch.bfloat16
    assert model.copy(dtype="float32").dtype == torch.float32
    assert model.model.dtype == torch.bfloat16


def test_a_copy_shares_nothing(folder: Path) -> None:
    model = meow.LanguageModel.from_pretrained(folder, device="cpu")
    copied = model.duplicate()
    with torch.no_grad():
        next(copied.model.parameters()).add_(1.0)
    assert not next(copied.model.parameters()).equal(next(model.model.parameters()))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"prompt": "tiney"}, "Did you mean tiny"), ({"prompt": {"template_": "x"}}, "template"),
        ({"precision": "bf16"}, "bf16-true"), ({"attention": "fast"}, "attention"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(folder: Path, options: dict[str, object], named: str) -> None:
    with pytest.raises(meow.UserError, match=named):
        meow.LanguageModel.from_pretrained(folder, device="cpu", **options)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(meow.UserError, match="source="):
        meow.LanguageModel.from_pretrained(tmp_path / "missing")
