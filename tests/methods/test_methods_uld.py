from __future__ import annotations

import copy
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.doc_commands import ROOT
from helpers.logits import small
from transformers import AutoModelForCausalLM

from meow_lightning.data.batch_plan import counts
from meow_lightning.data.collate import collate
from meow_lightning.methods.uld import Uld
from meow_lightning.models.layers import decoder_layers
from meow_lightning.models.logprobs import answer_logps, scored_logits
from meow_lightning.training.module import total_loss
from meow_lightning.training.preparation import prepare_method
from meow_lightning.types import Encoded

# What follows positions 0, 1 and 2.
PROBABILITIES = [[0.5, 0.25, 0.25], [0.8, 0.1, 0.1], [0.25, 0.25, 0.5]]
ONE = [Encoded((2, 0), 1)]
STREAMS = {"forget": ONE, "retain": ONE, "inverted": ONE}
FACTS = {
    "forget": [Encoded((5, 6, 7, 8, 0), 2), Encoded((9, 10, 11, 0), 2)],
    "retain": [Encoded((12, 13, 14, 0), 2), Encoded((15, 16, 17, 18, 0), 3)],
    "inverted": [Encoded((5, 6, 20, 21, 0), 2), Encoded((9, 10, 22, 0), 2)],
}


def uld(**given: Any) -> Uld:
    options = {
        "alpha": 0.75, "rho": 0.01, "beta": 6.5, "inverted_share": 2 / 3, "layer_fraction": 0.25, "rank": 4,
        "lora_alpha": 8.0,
    }  # fmt: skip
    return Uld(**options | given)


@pytest.fixture
def parts(table_lm, to_rows):
    """The parts of the loss of an assistant with given probabilities, and its logits."""

    def of(method: Uld, streams=STREAMS, **how) -> tuple[dict, torch.Tensor]:
        assistant = table_lm(torch.tensor(PROBABILITIES, dtype=torch.float64).log())
        batch = {name: to_rows([(list(row.ids), row.prompt) for row in rows], **how) for name, rows in streams.items()}
        return method.loss(SimpleNamespace(assistant=assistant), batch, None), assistant.table

    return of


def test_the_forget_term_raises_the_answer(parts) -> None:
    found, table = parts(uld())
    assert found["forget"].sum.item() == pytest.approx(0.693147, abs=1e-6)
    found["forget"].sum.backward()
    assert table.grad[0].tolist() == pytest.approx([-0.5, 0.25, 0.25])


@pytest.mark.parametrize("stream", ["retain", "inverted"])
def test_the_uniform_terms_lower_the_peak(parts, stream: str) -> None:
    found, table = parts(uld())
    assert found[stream].sum.item() == pytest.approx(0.056633, abs=1e-6)
    assert found[stream].sum.item() + math.log(3) == pytest.approx(1.155245, abs=1e-6)  # the paper's cross-entropy
    found[stream].sum.backward()
    assert table.grad[0].tolist() == pytest.approx([1 / 6, -1 / 12, -1 / 12])


@pytest.mark.parametrize("share", [0.0, 2 / 3, 1.0])
def test_the_total_does_not_depend_on_the_share_of_equal_rows(parts, share: float) -> None:
    method = uld(inverted_share=share)
    assert method.streams == ("forget", *["retain"] * (share < 1), *["inverted"] * (share > 0))
    found, _ = parts(method)
    assert found.keys() == {*method.streams}
    assert total_loss(found, counts(STREAMS)).item() == pytest.approx(1.061262, abs=1e-6)


@pytest.mark.parametrize("pad_id", [0, 1])
def test_a_row_is_its_mean_over_prompt_and_answer_without_padding(parts, pad_id: int) -> None:
    rows = [Encoded((2, 1, 0), 2), Encoded((2, 0), 1)]
    found, _ = parts(uld(), STREAMS | {"retain": rows}, width=6, pad_id=pad_id)
    peaked = -math.log(3) - (math.log(0.8) + 2 * math.log(0.1)) / 3
    assert found["retain"].sum.item() == pytest.approx((0.056633 + peaked) / 2 + 0.056633, abs=1e-6)
    assert found["forget"].sum.item() == pytest.approx(0.693147, abs=1e-6)


def prepared(method: Uld, model: Any) -> Any:
    prepare_method(
        method, model, rows=FACTS, seed=0, pad_id=1, micro_batch_size=1, micro_batch_tokens=None, may_attach=True
    )  # fmt: skip
    return model


def entropy(model: Any, rows: Any) -> float:
    logps_NV = scored_logits(model, rows)[0].log_softmax(-1)  # noqa: N806
    return -(logps_NV.exp() * logps_NV).sum(-1).mean().item()


@pytest.fixture(scope="module")
def trained() -> tuple[Uld, Any, Any]:
    """The method, its model after some steps, and the base model before them."""
    method, model = uld(layer_fraction=0.3), small(0, 4).double()
    start = copy.deepcopy(model)
    prepared(method, model)
    optimizer = torch.optim.AdamW([weight for _, weight in method.parameters(model)], lr=2e-2)
    batch = {name: collate(rows, pad_id=1) for name, rows in FACTS.items()}
    for _ in range(40):
        optimizer.zero_grad()
        total_loss(method.loss(model, batch, None), counts(FACTS)).backward()
        optimizer.step()
    return method, model.eval(), start


def test_the_assistant_learns_what_the_base_is_to_forget_and_the_base_stays(trained) -> None:
    method, model, start = trained
    kept = {name: weight for name, weight in model.named_parameters() if not name.startswith("assistant.")}
    assert kept.keys() == dict(start.named_parameters()).keys()
    assert all(torch.equal(kept[name], weight) for name, weight in start.named_parameters())
    assert len(decoder_layers(model.assistant)) == 2  # of 4: 1.2, rounded up
    batch = {name: collate(rows, pad_id=1) for name, rows in FACTS.items()}
    untrained = prepared(uld(layer_fraction=0.3), copy.deepcopy(start)).assistant
    with torch.no_grad():
        assert (answer_logps(model.assistant, batch["forget"]) > answer_logps(untrained, batch["forget"]) + 0.5).all()
        answers = method.inference(model)
        assert (answer_logps(answers, batch["forget"]) < answer_logps(start, batch["forget"]) - 0.25).all()
        assert math.log(50) - entropy(model.assistant, batch["retain"]) < 0.1
        moved = answer_logps(answers, batch["retain"]) - answer_logps(start, batch["retain"])
        assert moved.abs().max() < 0.5


def test_the_documented_example_computes_the_same_logits_from_two_plain_folders(
    trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, trained_model, start = trained
    model = copy.deepcopy(trained_model).float()
    method.export(model, tmp_path / "model")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert all(torch.equal(weight, base.get_parameter(name)) for name, weight in start.float().named_parameters())
    assert not (tmp_path / "model" / "assistant" / "adapter_config.json").exists()
    page = (ROOT / "docs" / "guides" / "methods.md").read_text(encoding="utf-8")
    code = next(each for each in page.split("```python\n")[1:] if "/assistant" in each).split("```")[0]
    assert len([line for line in code.splitlines() if line]) == 10
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"ids": torch.tensor([[5, 6, 7, 8]])}
    with torch.no_grad():
        exec(code, names)
        loaded = method.load(tmp_path / "model", dtype="float32", attention="sdpa").eval()
        expected = method.inference(loaded).decoder()(input_ids=names["ids"]).logits
        unmerged = method.inference(trained_model).decoder()(input_ids=names["ids"]).logits
    assert torch.equal(names["logits"], expected)
    torch.testing.assert_close(expected, unmerged.float(), rtol=0, atol=1e-4)
