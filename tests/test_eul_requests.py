from __future__ import annotations

import eul_requests
import pytest
from helpers.library import language_model

import meow_lightning as meow


def test_two_requests_are_forgotten_in_three_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eul_requests, "FACTS", 2)
    monkeypatch.setattr(eul_requests, "KEPT", 3)
    monkeypatch.setattr(eul_requests, "RECIPE", {"lr": 1e-2, "epochs": 2, "global_batch_size": 2})
    facts = meow.load_dataset("fictional", authors=12, retain_eval=8, limit=6)
    first, second, both = eul_requests.requests(facts)
    assert [each.id for each in (*first.forget, *second.forget)] == [each.id for each in both.forget]
    assert [len(each.forget) for each in (first, second, both)] == [2, 2, 4]
    target = language_model(facts)
    one, method = eul_requests.unlearned(target, first)
    joined = eul_requests.fused(target, [method])
    last = [model.model.model.layers[1].mlp.down_proj.weight for model in (target, one, joined)]
    assert (last[2] - last[1]).abs().max() < 0.1 * (last[1] - last[0]).abs().max()
    lines = list(eul_requests.table(target, facts))
    assert [line.count("|") for line in lines] == [5] * 8
