from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch

from meow_lightning.data.batch_plan import counts
from meow_lightning.errors import UserError
from meow_lightning.methods.balanced_subnet import BalancedSubnet
from meow_lightning.models.masks import masks
from meow_lightning.training.module import total_loss
from meow_lightning.training.preparation import prepare_method
from meow_lightning.types import Encoded

# After position 0 the model says 0.5 0.25 0.25, after position 1 it says 0.1 0.1 0.8.
LOGITS = [[log(0.5), log(0.25), log(0.25)], [log(0.1), log(0.1), log(0.8)], [0.0, 0.0, 0.0]]
STREAMS = {
    "forget": [Encoded((0, 1, 2), 1), Encoded((2, 0), 1)],  # 0.25, 0.8 and 0.5
    "retain": [Encoded((1, 1, 0), 2)],  # 0.1
}


def subnet(**changes: Any) -> BalancedSubnet:
    options = {"share": 0.3, "retain_weight": 0.7, "bound": 1.0, "target_modules": r".*\.mlp\..*", "mask": "learned"}
    return BalancedSubnet(**{**options, **changes})


@pytest.fixture
def value(table_lm, to_rows):
    def of(method: BalancedSubnet) -> tuple[float, torch.Tensor]:
        model = table_lm(LOGITS)
        batch = {name: to_rows([(list(row.ids), row.prompt) for row in STREAMS[name]]) for name in method.streams}
        loss = total_loss(method.loss(model, batch, None), counts(STREAMS))
        loss.backward()
        return loss.item(), model.table.grad

    return of


def prepared(method: BalancedSubnet, model: torch.nn.Module) -> torch.nn.Module:
    prepare_method(
        method, model, rows=STREAMS, seed=0, pad_id=1, micro_batch_size=1, micro_batch_tokens=None, may_attach=True
    )
    return model


def test_the_loss_by_hand(value) -> None:
    # min(-log p, 1): -log 1/4 = 1.39 counts as 1
    forget = (1 + log(1 / 0.8) + log(2)) / 3
    loss, gradient = value(subnet())
    assert loss == pytest.approx(-0.3 * forget + 0.7 * log(10))
    # the token above the bound has no gradient: position 0 predicts 0 (of 1/2) alone
    assert gradient[0].tolist() == pytest.approx([-0.3 / 3 * each for each in (-0.5, 0.25, 0.25)])


def test_without_a_retain_weight_no_retain_rows_are_read(value) -> None:
    method = subnet(retain_weight=0.0, bound=10.0)
    assert method.streams == ("forget",)
    assert value(method)[0] == pytest.approx(-log(10) / 3)


def test_with_a_weight_of_one_the_forget_term_has_none(value) -> None:
    assert value(subnet(retain_weight=1.0))[0] == pytest.approx(log(10))


def test_the_default_bound_is_the_logarithm_of_the_vocabulary(tiny) -> None:
    method, uniform = subnet(bound=None, retain_weight=0.0), Encoded((5, 6, 7), 1)
    with pytest.raises(ValueError, match="call prepare"):
        method.loss(tiny, {}, None)
    prepared(method, tiny)
    from meow_lightning.data.collate import collate

    with torch.no_grad():
        tiny.model.embed_tokens.weight.mul_(100.0)  # sure of wrong tokens: far above the bound
    part = method.loss(tiny, {"forget": collate([uniform], pad_id=1)}, None)["forget"]
    assert part.sum.item() == pytest.approx(2 * log(tiny.config.vocab_size))


def test_scores_alone_are_trained_and_a_random_mask_is_not(tiny) -> None:
    method = subnet()
    prepared(method, tiny)
    trained = {name for name, weight in tiny.named_parameters() if weight.requires_grad}
    assert trained == {f"{name}.scores" for name, _ in masks(tiny)}
    assert len(trained) == 3
    assert not method.done
    assert subnet(mask="random").done  # before the first step


def test_an_invalid_expression_or_mask_is_named() -> None:
    with pytest.raises(UserError, match=r"method\.target_modules=\(mlp is invalid: expected a regular expression"):
        subnet(target_modules="(mlp")
    with pytest.raises(UserError, match=r"method\.mask=randm is invalid.* Did you mean random\?"):
        subnet(mask="randm")
