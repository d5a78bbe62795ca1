from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.common import runtime
from helpers.damages import every_damage, harm

from meow_lightning.data.collate import collate
from meow_lightning.models.frozen_view import FrozenView
from meow_lightning.models.load import save_model
from meow_lightning.models.logprobs import answer_logps
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.reference_model import Weights, add_reference_logps, reference_model
from meow_lightning.types import Encoded

RUNTIME = runtime()
ROWS = [Encoded((5, 6, 7, 8), 2), Encoded((9, 10, 11), 1), Encoded((12, 13, 14, 15, 16), 3)]
PROMPT = {"template": "Question: {question}\nAnswer:", "answer_prefix": " ", "system": None, "date": None}


@pytest.fixture
def work(tiny, tokenizer, tmp_path: Path) -> StageContext:
    save_model(tiny, tokenizer, tmp_path / "start" / "model", end_ids=frozenset({tokenizer.eos_token_id}))
    (tmp_path / "made").mkdir()
    model = {"prompt": PROMPT, "precision": "32-true", "attention": "sdpa", "lora": None}
    return StageContext(
        stage="unlearn", label="", folder=tmp_path / "made", settings={"model": model}, inputs={},
        needs={"start": tmp_path / "start"}, runtime=RUNTIME,
    )  # fmt: skip


def test_rows_get_what_the_start_model_thinks_of_them_once(work: StageContext, tiny) -> None:
    rows = add_reference_logps(work, tiny, ROWS, name="forget", pad_id=1)
    with torch.no_grad():
        alone = [answer_logps(tiny.eval(), collate([row], pad_id=1)).item() for row in ROWS]
    assert [row.reference for row in rows] == pytest.approx(alone, abs=1e-5)
    assert [(row.ids, row.prompt) for row in rows] == [(row.ids, row.prompt) for row in ROWS]
    assert collate(rows, pad_id=1).ref_logps_B.tolist() == pytest.approx(alone, abs=1e-5)
    with torch.no_grad():
        next(tiny.parameters()).fill_(0)  # a resumed training does not ask a model that has moved on
    assert add_reference_logps(work, tiny, ROWS, name="forget", pad_id=1) == rows


@every_damage
def test_damaged_log_probabilities_are_computed_anew(work: StageContext, tiny, damage: str) -> None:
    rows = add_reference_logps(work, tiny, ROWS, name="forget", pad_id=1)
    harm(work.folder / "resume" / "reference-forget.json", damage)
    assert add_reference_logps(work, tiny, ROWS, name="forget", pad_id=1) == rows


def test_the_start_model_is_handed_over_where_it_is_queried_for(work: StageContext, tiny) -> None:
    assert reference_model(work, SimpleNamespace(reference="none"), tiny) is None  # type: ignore[arg-type]
    assert reference_model(work, SimpleNamespace(reference="logprobs"), tiny) is None  # type: ignore[arg-type]
    frozen = reference_model(work, SimpleNamespace(reference="model"), tiny)  # type: ignore[arg-type]
    assert frozen is not None
    assert not frozen.training
    assert not any(weight.requires_grad for weight in frozen.parameters())
    for name, weight in frozen.named_parameters():
        torch.testing.assert_close(weight, dict(tiny.named_parameters())[name])


def test_with_adapters_the_model_without_them_serves(work: StageContext, tiny) -> None:
    from meow_lightning.models.lora import with_lora

    work.settings["model"]["lora"] = {"rank": 2, "alpha": 4.0}  # type: ignore[index]
    batch = collate(ROWS, pad_id=1)
    with torch.no_grad():
        before = answer_logps(tiny.eval(), batch)
    adapted = with_lora(tiny, rank=2, alpha=4.0, dropout=0.0, seed=0)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight += 0.5
    start = reference_model(work, SimpleNamespace(reference="model"), adapted)  # type: ignore[arg-type]
    assert isinstance(start, FrozenView)
    torch.testing.assert_close(answer_logps(start, batch), before)
    assert not torch.allclose(answer_logps(adapted, batch), before)
    assert list(start.parameters()) == []


def test_stored_weights_are_read_by_name(work: StageContext, tiny) -> None:
    weights = Weights(work.needs["start"] / "model")
    known = dict(tiny.named_parameters())
    assert set(weights) <= set(known)
    assert len(weights) == len(list(weights)) > 5
    for name in weights:
        torch.testing.assert_close(weights[name], known[name].detach())
