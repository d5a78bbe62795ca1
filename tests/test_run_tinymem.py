"""The testbed: what BalancedSubnet claims holds on TinyMem, and its undo file gives the start model back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import meow_lightning as meow
from meow_lightning.cli.undo import main

WORDS = (
    "dataset=tinymem", "model=tinymem", "method=balanced_subnet", "method.share=0.035", "method.retain_weight=0.9",
    "method.bound=2", "trainer=cpu", "trainer.parallel_stages=1", "logger=none", "callbacks.memo_every_epochs=0",
    "evaluation.gradient_norm=false",
)  # fmt: skip


@pytest.mark.slow
def test_memorised_sequences_are_forgotten_the_rest_stays_and_a_random_mask_does_nothing(tmp_path: Path) -> None:
    learned = meow.run([*WORDS], outputs=tmp_path)
    random = meow.run([*WORDS, "method.mask=random"], outputs=tmp_path)
    assert learned.results is not None
    assert random.results is not None
    before, after = learned.results.values["target"], learned.results.values["unlearned"]
    assert before["forget/extractable"] > 0.9
    assert after["forget/extractable"] <= before["forget/extractable"] / 5
    assert after["held_out/perplexity"] <= 1.05 * before["held_out/perplexity"]
    assert random.results.values["unlearned"]["forget/extractable"] > 0.6 * before["forget/extractable"]

    start, unlearned = (learned.artifacts[name] / "model" for name in ("finetune target", "unlearn unlearned"))
    assert main([str(unlearned), "--to", str(tmp_path / "back")]) == 0
    first, edited, back = (load_file(folder / "model.safetensors") for folder in (start, unlearned, tmp_path / "back"))
    for name, weight in first.items():
        changed = edited[name] != weight
        assert changed.any() == (".mlp." in name)
        assert not edited[name][changed].any()
        assert torch.equal(back[name].view(torch.int32), weight.view(torch.int32))
