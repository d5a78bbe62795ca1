from __future__ import annotations

from math import log

import pytest
import torch

from meow_lightning.data.batch_plan import counts
from meow_lightning.data.streams.vague import Vague
from meow_lightning.methods.relearn import ReLearn
from meow_lightning.training.module import total_loss
from meow_lightning.types import Encoded

LOGITS = [[log(0.5), log(0.25), log(0.25)], [log(0.1), log(0.1), log(0.8)], [0.0, 0.0, 0.0]]
START = [[log(0.25), log(0.5), log(0.25)], [log(0.2), log(0.2), log(0.6)], [0.0, 0.0, 0.0]]
STREAMS = {
    "vague": [Encoded((0, 2, 1), 1), Encoded((2, 1), 1)],  # p = 0.25, 0.1 and 0.25
    "retain": [Encoded((1, 1, 0), 2), Encoded((0, 1, 2), 1)],  # p = 0.1, 0.25 and 0.8
}
# KL(start || model) after position 0, and after position 1
AT_0, AT_1 = 0.25 * log(2), 0.4 * log(2) + 0.6 * log(0.75)


@pytest.mark.parametrize(("ce", "kl"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 2.0)])
@pytest.mark.parametrize("width", [3, 5])
def test_vague_answers_and_two_terms_on_the_retain_rows(table_lm, to_rows, ce: float, kl: float, width: int) -> None:
    model, start = table_lm(LOGITS), table_lm(START).requires_grad_(False)
    batch = {
        name: to_rows([(list(row.ids), row.prompt) for row in rows], width=width) for name, rows in STREAMS.items()
    }
    loss = total_loss(ReLearn(phrasings=2, retain_weight=ce, kl_weight=kl).loss(model, batch, start), counts(STREAMS))
    retain = ce * log(50) / 3 + kl * (AT_0 + 2 * AT_1) / 3
    assert loss.item() == pytest.approx(log(160) / 3 + retain)
    loss.backward()
    vague = torch.tensor([1.0, -0.5, -0.5], dtype=torch.float64) / 3  # after position 0
    at_0 = ce * torch.tensor([0.5, -0.75, 0.25]) + kl * torch.tensor([0.25, -0.25, 0.0])
    torch.testing.assert_close(model.table.grad[0], vague + at_0.double() / 3)


def test_it_needs_the_start_model_and_builds_vague_answers(table_lm) -> None:
    method = ReLearn(phrasings=2, retain_weight=1.0, kl_weight=1.0)
    with pytest.raises(TypeError, match=r"^the divergence on retain needs the start model"):
        method.loss(table_lm(LOGITS), {}, None)
    builder = method.builders["vague"]
    assert isinstance(builder, Vague)
    assert builder.phrasings == 2
