from __future__ import annotations

from math import log

import pytest
import torch
from safetensors.torch import load_file

from meow_lightning.data.batch_plan import counts
from meow_lightning.data.collate import collate
from meow_lightning.methods.eul import Eul
from meow_lightning.models.unlearning_layers import unlearning_layers
from meow_lightning.training.module import total_loss
from meow_lightning.training.preparation import prepare_method
from meow_lightning.types import Encoded, TokenBatch

# After position 0 the teacher says .5 .25 .25 and the student .25 .5 .25; the answer is token 1.
TEACHER = [[log(0.5), log(0.25), log(0.25)], [0.0] * 3]
STUDENT = [[log(0.25), log(0.5), log(0.25)], [0.0] * 3]
ROWS = {"forget": [Encoded((5, 6, 7, 8), 2)], "retain": [Encoded((9, 10, 11), 1)]}


def eul(*, kl: float = 0.8, retain: float = 1.0, ascent: float = 0.2, bound: float = 10.0) -> Eul:
    return Eul(rank=4, kl_weight=kl, retain_weight=retain, ascent_weight=ascent, bound=bound)


def prepared(model: torch.nn.Module, method: Eul, rows: dict[str, list[Encoded]] = ROWS) -> Eul:
    prepare_method(
        method, model, rows=rows, seed=0, pad_id=1, micro_batch_size=1, micro_batch_tokens=None, may_attach=True
    )
    return method


@pytest.fixture
def parts(table_lm, to_rows):
    """Loss parts of a student whose logits are free parameters, and their gradients with respect to these."""

    def of(method: Eul, stream: str) -> dict[str, tuple[float, list[float]]]:
        method._teacher, found = table_lm(TEACHER), {}
        rows = to_rows([([0, 1], 1)])
        for name in method.loss(table_lm(STUDENT), {stream: rows}, None):
            model = table_lm(STUDENT)
            part = method.loss(model, {stream: rows}, None)[name]
            (part.weight * part.sum).backward()
            found[name] = (part.sum.item(), model.table.grad[0].tolist())
        return found

    return of


def test_the_forget_terms_lead_away_from_the_teacher_and_from_the_answer(parts) -> None:
    found = parts(eul(), "forget")
    assert found.keys() == {"forget_kl", "forget_ce"}
    assert found["forget_kl"] == (pytest.approx(0.173287, abs=5e-7), pytest.approx([0.25, -0.25, 0]))
    assert found["forget_ce"] == (pytest.approx(log(2)), pytest.approx([-0.2 * 0.25, 0.2 * 0.5, -0.2 * 0.25]))


def test_the_retain_terms_lead_to_the_teacher_and_to_the_answer(parts) -> None:
    found = parts(eul(), "retain")
    assert found.keys() == {"retain_kl", "retain_ce"}
    assert found["retain_kl"] == (pytest.approx(0.173287, abs=5e-7), pytest.approx([-0.2, 0.2, 0]))
    assert found["retain_ce"] == (pytest.approx(log(2)), pytest.approx([0.25, -0.5, 0.25]))


def test_tokens_beyond_the_bound_are_left_alone_and_kept_facts_are_not_bounded(parts) -> None:
    assert parts(eul(bound=0.1), "forget") == {"forget_kl": (0.1, [0, 0, 0]), "forget_ce": (0.1, [0, 0, 0])}
    assert parts(eul(bound=0.1), "retain") == parts(eul(), "retain")


def test_epochs_alternate_and_start_with_the_forget_set() -> None:
    assert [eul().phase(epoch) for epoch in range(4)] == [("forget",), ("retain",)] * 2


def test_the_first_step_is_that_of_the_cross_entropy_alone(tiny, to_rows) -> None:
    method = prepared(tiny.double(), eul())
    batch: dict[str, TokenBatch] = {"forget": to_rows([([5, 6, 7, 8], 2)])}
    found = method.loss(tiny, batch, None)
    found["forget_kl"].sum.backward(retain_graph=True)
    (layer,) = unlearning_layers(tiny)
    assert found["forget_kl"].sum.item() == pytest.approx(0, abs=1e-12)
    assert layer.up.grad.abs().max() < 1e-12
    found["forget_ce"].sum.backward()
    assert layer.up.grad.abs().max() > 1e-6


def test_training_leaves_all_other_weights_alone_and_forgets(tiny) -> None:
    method = prepared(tiny.double(), eul())
    assert [name for name, weight in tiny.named_parameters() if weight.requires_grad] == [
        "model.layers.0.mlp.unlearning.up"
    ]
    frozen = {name: weight.clone() for name, weight in tiny.named_parameters() if not weight.requires_grad}
    optimizer = torch.optim.AdamW([unlearning_layers(tiny)[0].up], lr=0.1)
    losses = []
    for epoch in range(8):
        batch = {stream: collate(ROWS[stream], pad_id=1) for stream in method.phase(epoch)}
        loss = total_loss(method.loss(tiny, batch, None), counts(ROWS))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[6] < losses[0]
    assert all(torch.equal(weight, frozen[name]) for name, weight in tiny.named_parameters() if name in frozen)


def test_the_exported_model_is_plain_and_what_fusing_needs_lies_beside_it(tiny, tmp_path) -> None:
    method = prepared(tiny, eul())
    method.finalize(tiny, {})
    method.export(tiny, tmp_path)
    assert not [key for key in load_file(tmp_path / "model.safetensors") if "unlearning" in key]
    stored = load_file(tmp_path / "unlearning" / "corrections.safetensors")
    assert {key: tuple(each.shape) for key, each in stored.items()} == {
        "0.down": (16, 4), "0.up": (4, 16), "0.gram": (4, 4),
    }  # fmt: skip
    assert stored["0.gram"].diagonal().min() > 0


def test_a_method_that_was_not_prepared_says_so(tiny, to_rows) -> None:
    with pytest.raises(ValueError, match=r"^EUL has no teacher yet: call prepare\(\) before the first loss$"):
        eul().loss(tiny, {"forget": to_rows([([0, 1], 1)])}, None)
    with pytest.raises(ValueError, match=r"^EUL has no rows for its Gram matrices yet: call prepare\(\) first$"):
        eul().finalize(tiny, {})
