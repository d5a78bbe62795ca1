"""Models that are given: every published model's config through the complete job, and a model of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.model_families import FAMILIES, save_family
from safetensors.torch import load_file
from test_run import results, run, stages

from meow_lightning.data.fictional import Fictional

FAST = ("debug=fast", "logger=none", "trainer=cpu", "trainer.jobs=1", "callbacks.memo_every_epochs=0")


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families")
    facts = Fictional(split="forget10", authors=20, candidates=8, phrasings=1, retain_eval=8, seed=0)
    texts = [text for pair in facts.texts()[:2000] for text in pair]
    for name in FAMILIES:
        save_family(name, folder / name, texts=texts)
    return folder


def losses(outputs: Path, label: str) -> list[list[float]]:
    """The training curves of every finished model with this label."""
    found = []
    for path in (outputs / "store" / "finetune").glob("*/manifest.json"):
        if json.loads(path.read_text())["label"] == label:
            lines = (path.parent / "metrics.jsonl").read_text().splitlines()
            found.append([json.loads(line)["loss"] for line in lines])
    return found


@pytest.mark.slow
def test_every_published_model_goes_the_whole_way_from_a_base_of_its_architecture(families: Path, tmp_path) -> None:
    words = (*FAST, f"model.base={families}/${{model.name}}", "dataset=fictional", "callbacks.log_every=1")
    out = run(
        tmp_path, "-m", f"model={','.join(FAMILIES)}", "model.finetune.epochs=6", "model.finetune.lr=0.01", *words
    )
    assert "4 runs" in out
    assert not (tmp_path / "runs" / "failed").exists()
    assert len(list((tmp_path / "store" / "evaluate").glob("*/results.json"))) == len(FAMILIES)
    curves = losses(tmp_path, "target")
    assert len(curves) == len(FAMILIES)
    assert all(curve[-1] < 0.8 * curve[0] for curve in curves), curves
    for model in (tmp_path / "store" / "unlearn").glob("*/model"):
        assert json.loads((model / "generation_config.json").read_text())["do_sample"] is False
        assert json.loads((model / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.slow
def test_given_target_and_retain_models_are_linked_and_compared(families: Path, tmp_path) -> None:
    name = FAMILIES[1]
    words = (f"model={name}", f"model.target={families / name}", f"model.retain={families / FAMILIES[0]}")
    out = run(tmp_path, *FAST, *words, "dataset=fictional")
    made = stages(out)
    assert {label for stage, label in made if stage == "finetune"} == {"target", "retain"}
    assert "forget quality compares their recipes too" in out
    assert "forget_quality" in results(tmp_path)["unlearned"]
    (target,) = [
        path.parent for path in (tmp_path / "store" / "finetune").glob("*/manifest.json")
        if json.loads(path.read_text())["label"] == "target"
    ]  # fmt: skip
    weights = target / "model" / "model.safetensors"
    assert weights.is_symlink()
    assert weights.resolve() == (families / name / "model.safetensors").resolve()


@pytest.mark.slow
def test_a_model_and_facts_of_ones_own_get_everything_but_forget_quality(families: Path, tmp_path) -> None:
    facts, keep = tmp_path / "facts.jsonl", tmp_path / "keep.jsonl"
    for path, who in ((facts, "Ada Brook"), (keep, "Otto Kranz")):
        entries = [{"question": f"Where was {who}{i} born?", "answer": f"In Lima, in {1950 + i}."} for i in range(6)]
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    words = (
        "dataset=jsonl",
        f"dataset.forget={facts}",
        f"dataset.retain={keep}",
        f"model.target={families / FAMILIES[3]}",
    )
    out = run(tmp_path / "out", *FAST, "model.max_new_tokens=8", "optim.epochs=1", *words)
    assert out.startswith("own-jsonl-meow-s0-debug")
    values = results(tmp_path / "out")
    assert "retain" not in {role for role, numbers in values.items() if numbers}
    assert {"model_utility", "memo/answers", "forget/truth_ratio", "retain/rouge_l_recall"} <= set(values["unlearned"])
    assert "forget_quality" not in values["unlearned"]
    assert "not measured: forget quality (log10 p) (there is no retain model: model.target is given alone; give" in out
    assert "note: wrong answers of 6 of 6 facts to forget are made by rules" in out


def weights(outputs: Path) -> dict[str, torch.Tensor]:
    (path,) = (outputs / "store" / "unlearn").glob("*/model/model.safetensors")
    return load_file(path)


@pytest.mark.slow
def test_adapters_go_the_whole_way_in_mixed_precision(tmp_path) -> None:
    words = (*FAST, "model.lora.rank=4", "model.dtype=bfloat16", "model.precision=mixed", "optim.lr=0.01")
    assert set(stages(run(tmp_path, *words)).values()) == {"computed"}
    (unlearned,) = (tmp_path / "store" / "unlearn").glob("*/model")
    assert not list(unlearned.glob("adapter*")), "adapters are merged"
    assert set(stages(run(tmp_path, *words, "trainer.checkpointing=true")).values()) == {"cached"}


@pytest.mark.slow
def test_recomputing_and_smaller_passes_change_no_adapter(tmp_path) -> None:
    words = (*FAST, "goal=unlearn", "method=grad_ascent", "model.lora.rank=4", "optim.lr=0.001")
    run(tmp_path / "one", *words)
    run(tmp_path / "other", *words, "trainer.checkpointing=true", "trainer.micro_batch=3")
    one, other = weights(tmp_path / "one"), weights(tmp_path / "other")
    assert one.keys() == other.keys()
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], atol=1e-5, rtol=0, msg=name)
