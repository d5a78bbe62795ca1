from __future__ import annotations

import pytest
import torch
from helpers.gguf import small_model, write_gguf

from meow_lightning.errors import UserError
from meow_lightning.models.language_model import LanguageModel
from meow_lightning.models.load import load_checkpoint, load_tokenizer, read_model_files

PROMPT = {"template": "auto", "answer_prefix": ""}
TEXTS = ["Where was Ada born?", "in  1946,\n\n12 x ½"]


def test_a_file_holds_the_model_that_was_written(tmp_path):
    model, tokenizer = small_model()
    path = write_gguf(tmp_path / "sha256-01", model, tokenizer)
    loaded, read = load_checkpoint(path, dtype="float32", attention="sdpa"), load_tokenizer(path)
    ids = torch.tensor([read(TEXTS[0]).input_ids])
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    for text in TEXTS:
        assert read(text).input_ids == tokenizer(text).input_ids
    assert (read.eos_token, read.pad_token, read.chat_template) == (
        tokenizer.eos_token, tokenizer.pad_token, tokenizer.chat_template
    )  # fmt: skip


def test_what_is_saved_is_a_plain_folder(tmp_path):
    path = write_gguf(tmp_path / "x.gguf", *small_model(), kind="Q8_0", tokenizer__ggml__eot_token_id=7)
    loaded = load_checkpoint(path, dtype="float32", attention="eager")
    loaded.save_pretrained(tmp_path / "plain")
    again = load_checkpoint(tmp_path / "plain", dtype="float32", attention="eager")
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(loaded(ids).logits, again(ids).logits)
    assert again.generation_config.eos_token_id == sorted({7, small_model()[1].eos_token_id})
    assert not hasattr(again.config, "quantization_config")


def test_single_digits_are_split_before_blanks_merge(tmp_path):
    model, tokenizer = small_model()
    path = write_gguf(tmp_path / "x.gguf", model, tokenizer, pre="smollm")
    read = load_tokenizer(path)
    pieces = read.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")
    assert [piece for piece, _ in pieces] == ["a", "ĠĠ", "1", "2"]


def test_prompts_are_those_of_the_chat_template(tmp_path):
    path = write_gguf(tmp_path / "x.gguf", *small_model())
    codec = read_model_files(path, path, name="model.target=x.gguf").codec(PROMPT)
    assert codec.template == "chat"
    assert codec.decode(codec.prompt_ids("Who?"), keep_special=True) == "<|pad|>user\nWho?<|end|>\n<|pad|>assistant\n"
    assert codec.end_id == small_model()[1].eos_token_id


def test_an_architecture_that_transformers_does_not_know_is_refused(tmp_path):
    path = write_gguf(tmp_path / "x.gguf", *small_model(), architecture="llma")
    with pytest.raises(UserError, match=r"^model.target=x: general.architecture=llma is not supported.*mean llama\?$"):
        read_model_files(path, path, name="model.target=x")


def test_the_library_loads_a_file(tmp_path):
    path = write_gguf(tmp_path / "x.gguf", *small_model())
    loaded = LanguageModel.from_pretrained(path, device="cpu")
    assert loaded.encoder.template == "chat"
    loaded.save_pretrained(tmp_path / "plain")
    assert LanguageModel.from_pretrained(tmp_path / "plain", device="cpu").encoder.end_ids == loaded.encoder.end_ids
