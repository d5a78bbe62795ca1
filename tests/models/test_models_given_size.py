from __future__ import annotations

import json

from meow_lightning.models.pretrained_folder import parameters


def shard(path, tensors):
    header = json.dumps({"__metadata__": {"format": "pt"}} | {name: {"shape": size} for name, size in tensors.items()})
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + b"weights, not read")


def test_weights_are_counted_from_the_header(tmp_path):
    shard(tmp_path / "model.safetensors", {"a": [3, 5], "b": [7], "scale": []})
    assert parameters(tmp_path) == 15 + 7 + 1


def test_only_the_files_of_the_index_count(tmp_path):
    shard(tmp_path / "one.safetensors", {"a": [3, 5]})
    shard(tmp_path / "two.safetensors", {"b": [7]})
    shard(tmp_path / "consolidated.safetensors", {"a": [3, 5], "b": [7]})
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert parameters(tmp_path) == 22


def test_buffers_do_not_count_as_weights(tmp_path):
    tables = {"h.0.attn.bias": [1, 1, 8, 8], "h.0.attn.masked_bias": [], "x.rotary_emb.inv_freq": [64]}
    shard(tmp_path / "model.safetensors", {"h.0.attn.c_attn.bias": [24], **tables})
    assert parameters(tmp_path) == 24
