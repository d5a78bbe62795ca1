from __future__ import annotations

import pytest
import torch
from helpers.assistant import Assistant

from meow_lightning.errors import UserError
from meow_lightning.methods.base import BaseMethod, PrepareContext
from meow_lightning.models.lora import with_lora
from meow_lightning.training.preparation import prepare_method, train_only
from meow_lightning.types import Encoded

ROWS = [Encoded(tuple(range(2, 2 + length)), 1, -float(length)) for length in (3, 5, 4, 2, 6)]


class Seen(BaseMethod):
    """Keeps what it was shown."""

    streams = ("forget",)

    def prepare(self, ctx: PrepareContext) -> None:
        self.ctx, self.training = ctx, ctx.model.training
        self.batches = list(ctx.batches("forget"))


@pytest.mark.parametrize(("tokens", "sizes"), [(None, [2, 2, 1]), (10, [1, 2, 2])])
def test_a_method_sees_every_row_once_in_micro_batches(tiny, tokens: int | None, sizes: list[int]) -> None:
    method = Seen()
    prepare_method(
        method, tiny, rows={"forget": ROWS}, seed=7, pad_id=1, micro_batch_size=2, micro_batch_tokens=tokens,
        may_attach=False,
    )  # fmt: skip
    assert [len(rows.input_ids_BT) for rows in method.batches] == sizes
    known = torch.cat([rows.ref_logps_B for rows in method.batches]).tolist()
    assert sorted(known) == sorted(row.reference for row in ROWS)
    assert (method.ctx.seed, method.ctx.device, method.training) == (7, torch.device("cpu"), False)
    assert method.ctx.model is tiny
    assert len(list(method.ctx.batches("forget"))) == len(sizes)  # as often as it likes


def test_all_else_is_frozen_and_what_was_frozen_stays_so(tiny) -> None:
    first, second, *_ = names = [name for name, _ in tiny.named_parameters()]
    weights = dict(tiny.named_parameters())
    weights[second].requires_grad_(False)
    train_only(tiny, [(first, weights[first]), (second, weights[second])])
    assert [name for name in names if weights[name].requires_grad] == [first]


def test_without_a_selection_nothing_is_frozen(tiny) -> None:
    train_only(tiny, None)
    assert all(weight.requires_grad for weight in tiny.parameters())


def test_a_selection_beside_the_adapters_is_an_error(tiny) -> None:
    model = with_lora(tiny, rank=2, alpha=4.0, dropout=0.0, seed=0)
    frozen = [(name, weight) for name, weight in model.named_parameters() if not weight.requires_grad]
    with pytest.raises(UserError, match=r"^the method trains no weight of this model: .*model\.lora"):
        train_only(model, frozen)


def test_modules_are_attached_only_where_they_survive(tiny) -> None:
    rows = {"forget": ROWS}
    how = {"seed": 0, "pad_id": 1, "micro_batch_size": 2, "micro_batch_tokens": None}
    with pytest.raises(UserError, match=r"^Assistant attaches modules to the model, .* set trainer\.strategy=ddp"):
        prepare_method(Assistant(weight=0.5), tiny, rows=rows, may_attach=False, **how)
    method = Assistant(weight=0.5)
    prepare_method(method, tiny, rows=rows, may_attach=True, **how)
    assert method.seen == len(ROWS)
    assert [name for name, weight in tiny.named_parameters() if weight.requires_grad] == [
        f"assistant.{name}" for name, _ in tiny.assistant.named_parameters()
    ]
