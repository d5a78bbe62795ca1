from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
from helpers.gguf import small_model, write_gguf

from meow_lightning.models import gguf_file
from meow_lightning.models.checkpoint import check, format_of
from meow_lightning.models.gguf_file import config, is_gguf, parameters, problem, rounding_note
from meow_lightning.resources.training_memory import dims_of


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", *small_model(), kind="Q8_0")


@pytest.fixture
def file(written, tmp_path) -> Path:
    """A whole file, to be damaged."""
    return Path(shutil.copy(written, tmp_path / "tiny.gguf"))


def test_a_header_says_what_estimates_need(file):
    model, tokenizer = small_model()
    assert problem(file) is None
    assert parameters(file) == model.num_parameters()
    assert dims_of(config(file), parameters=parameters(file)) == dims_of(
        model.config.to_dict(), parameters=model.num_parameters()
    )
    assert gguf_file.tokens(file) == len(tokenizer)
    assert gguf_file.end_ids(file) == {tokenizer.eos_token_id}
    check("model.target", file, file)


def test_the_end_of_a_turn_is_an_end_token_too(tmp_path):
    model, tokenizer = small_model()
    path = write_gguf(tmp_path / "x.gguf", model, tokenizer, tokenizer__ggml__eot_token_id=7)
    assert gguf_file.end_ids(path) == {tokenizer.eos_token_id, 7}


def test_a_file_is_known_by_its_first_bytes_as_well(file, tmp_path):
    blob = Path(shutil.copy(file, tmp_path / "sha256-0123"))  # as Ollama names its files
    other = tmp_path / "notes.txt"
    other.write_text("GGU")
    assert is_gguf(file) and is_gguf(blob)
    assert not is_gguf(other) and not is_gguf(tmp_path) and not is_gguf(tmp_path / "none.gguf")


@pytest.mark.parametrize(
    ("kind", "bits"), [("Q8_0", "8 bits (Q8_0"), ("Q4_1", "4 bits (Q4_1"), ("F32", None), ("F16", None)]
)
def test_rounded_weights_have_a_note(tmp_path, kind, bits):
    note = rounding_note(write_gguf(tmp_path / "x.gguf", *small_model(), kind=kind))
    assert note is None if bits is None else f"rounded to {bits}, x.gguf)" in note


def test_a_file_that_ends_early_is_cut_off(file):
    content = file.read_bytes()
    file.write_bytes(content[:-40])
    assert problem(file) == f"is cut off: {len(content) - 40} bytes of {len(content)}; download the file again"


@pytest.mark.parametrize("kept", [5, 24, 60, 2000])
def test_a_header_that_ends_early_is_cut_off(file, kept):
    file.write_bytes(file.read_bytes()[:kept])
    assert problem(file).startswith("is damaged or cut off: its header ends early")


@pytest.mark.parametrize("at", range(8, 400, 13))
def test_no_damage_of_a_header_ends_in_a_traceback(file, at):
    content = bytearray(file.read_bytes())
    content[at : at + 8] = b"\xff" * 8
    file.write_bytes(content)
    found = problem(file)
    assert found is None or "\n" not in found


def test_other_files_are_refused(file):
    content = file.read_bytes()
    for changed, said in [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a git-lfs pointer"),
        (b"PK\x03\x04" + content[4:], "is no GGUF file: it begins with b'PK"),
        (b"", "is no GGUF file"),
        (b"GGUF" + struct.pack("<I", 1) + content[8:], "version 1 of the format instead of 2 or 3"),
    ]:
        file.write_bytes(changed)
        assert said in problem(file)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"type": "adapter"}, "holds no model (general.type=adapter)"),
        ({"split__count": 3}, "is one of 3 parts of a model; join them"),
    ],
)
def test_files_that_are_no_whole_model_are_refused(tmp_path, entries, said):
    assert said in problem(write_gguf(tmp_path / "x.gguf", *small_model(), **entries))


def test_types_of_weights_that_cannot_be_decoded_are_refused(file, monkeypatch):
    tensor = gguf_file.Tensor("token_embd.weight", (32, 300), 15, 0)
    monkeypatch.setattr(
        gguf_file, "read_header", lambda _: gguf_file.Header({"general.architecture": "a"}, (tensor,), 0)
    )
    assert "has weights of the data type Q8_K, which the package gguf cannot decode" in problem(file)
    monkeypatch.setattr(
        gguf_file, "read_header",
        lambda _: gguf_file.Header({"general.architecture": "a"}, (tensor, gguf_file.Tensor("x", (1,), 999, 0)), 0),
    )  # fmt: skip
    assert "which the package gguf cannot decode" in problem(file)


def test_without_the_package_nothing_is_read(file, monkeypatch):
    monkeypatch.setattr(gguf_file, "find_spec", lambda _: None)
    assert problem(file).endswith("needs the package gguf; pip install 'meow-lightning[gguf]'")


def test_a_folder_with_only_a_file_names_the_file(file, tmp_path):
    assert format_of(tmp_path).problem(tmp_path) == f"has no config.json; give the GGUF file in it, {file}"
