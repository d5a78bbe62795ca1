from __future__ import annotations

from math import log

import pytest
import torch

from meow_lightning.errors import NotFiniteError
from meow_lightning.evaluation.loglikelihood import loglikelihoods
from meow_lightning.types import Encoded


def test_numbers_by_hand(table_lm) -> None:
    # After position 0: 0.5 0.25 0.25, after position 1: 0.1 0.1 0.8. The answer is 1, then 2.
    p, q = [0.5, 0.25, 0.25], [0.1, 0.1, 0.8]
    model = table_lm([[log(x) + 5 for x in p], [log(x) - 3 for x in q], [0.0, 0.0, 0.0]])
    ((index, said),) = loglikelihoods(model, [Encoded((0, 1, 2), 1)], pad_id=0, batch=4, progress=None)
    assert index == 0
    assert list(said.ids) == [1, 2]
    assert said.logps == pytest.approx([log(0.25), log(0.8)])
    assert said.hits == [0, 1]
    # With a = log 2: -a with chance 1/2 and -2a with 1/2, mean -1.5a and deviation a/2.
    # With b = log 8 between the two levels: log 0.1 with chance 0.2 and log 0.1 + b with 0.8, deviation sqrt(.16) b.
    assert said.mean == pytest.approx([-1.5 * log(2), log(0.1) + 0.8 * log(8)])
    assert said.std == pytest.approx([0.5 * log(2), 0.4 * log(8)])


@pytest.fixture
def rows(codec) -> list[Encoded]:
    texts = [
        ("Where was Ada born?", "Lima"),
        ("Who?", "Ada was born in Lima."),
        ("Q", "x"),
        ("What is it?", "12 books"),
    ]
    return [codec.encode(question, answer) for question, answer in texts]


def test_equals_plain_transformers_one_row_at_a_time(tiny, rows, codec) -> None:
    tiny.eval()
    found = dict(loglikelihoods(tiny, rows, pad_id=codec.pad_id, batch=3, progress=None))
    assert sorted(found) == [0, 1, 2, 3]
    for i, row in enumerate(rows):
        logps = tiny(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        for place, token in enumerate(row.ids[row.prompt :]):
            before = logps[row.prompt + place - 1]
            assert found[i].ids[place] == token
            assert found[i].logps[place] == pytest.approx(before[token].item(), abs=1e-6)
            mean = (before.exp() * before).sum().item()
            assert found[i].mean[place] == pytest.approx(mean, abs=1e-5)
            variance = (before.exp() * (before - mean).square()).sum().item()
            assert found[i].std[place] == pytest.approx(variance**0.5, abs=1e-5)
            assert found[i].hits[place] == int(before.argmax() == token)
        assert len(found[i].logps) == row.scored


@pytest.mark.parametrize("batch", [1, 2, 99])
def test_neither_the_order_nor_the_batch_matters(tiny, rows, codec, batch: int) -> None:
    tiny.eval()
    plain = dict(loglikelihoods(tiny, rows, pad_id=codec.pad_id, batch=4, progress=None))
    turned = dict(loglikelihoods(tiny, rows[::-1], pad_id=codec.pad_id, batch=batch, progress=None))
    for i in range(4):
        assert turned[3 - i].ids == plain[i].ids
        assert turned[3 - i].logps == pytest.approx(plain[i].logps, abs=1e-6)


def test_longest_rows_come_first_and_progress_counts_rows(tiny, rows, codec) -> None:
    told: list[int] = []
    order = [i for i, _ in loglikelihoods(tiny.eval(), rows, pad_id=codec.pad_id, batch=3, progress=told.append)]
    lengths = [len(rows[i].ids) for i in order]
    assert lengths == sorted(lengths, reverse=True)
    assert told == [3, 4]


def test_bf16_models_give_fp32_log_probabilities(tiny, rows, codec) -> None:
    found = dict(loglikelihoods(tiny.eval().to(torch.bfloat16), rows, pad_id=codec.pad_id, batch=4, progress=None))
    values = torch.tensor([logp for each in found.values() for logp in each.logps])
    assert not torch.equal(values, values.bfloat16().float())


def test_the_caller_is_not_left_in_inference_mode(tiny, rows, codec) -> None:
    found = loglikelihoods(tiny.eval(), rows, pad_id=codec.pad_id, batch=1, progress=None)
    next(found)
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_gives_no_numbers_has_no_likelihoods(tiny, rows, codec, value) -> None:
    with torch.no_grad():
        tiny.model.layers[0].mlp.up_proj.weight[3, 4] = value
    with pytest.raises(NotFiniteError, match="its training diverged"):
        list(loglikelihoods(tiny.eval(), rows, pad_id=codec.pad_id, batch=3, progress=None))


def test_packed_rows_hide_padding_tokens_as_padded_ones_do(tiny, rows, codec, monkeypatch) -> None:
    """Prompts and answers hold the padding token, and one prompt has several answers."""
    pad = codec.pad_id
    prompt, other = (7, pad, 8, 9, pad), (10, 11, pad)
    hiding = [Encoded((*prompt, 12 + at, pad, 13, 5), len(prompt)) for at in range(3)]
    hiding += [Encoded((*prompt, 20, 21), len(prompt)), Encoded((*other, 14, 15, 16, pad), len(other)), rows[0]]

    def logps() -> list[float]:
        found = dict(
            loglikelihoods(tiny, hiding, pad_id=pad, batch=8, progress=None, mask_pad_ids=True)
        )  # fmt: skip
        return [value for number in range(len(hiding)) for value in (*found[number].logps, *found[number].std)]

    packed = logps()
    monkeypatch.setattr("meow_lightning.evaluation.loglikelihood.is_worthwhile", lambda group, hidden: True)
    assert logps() == pytest.approx(packed, abs=1e-5)
    monkeypatch.setattr("meow_lightning.evaluation.loglikelihood.supports_packing", lambda *_: False)
    padded = logps()
    assert packed == pytest.approx(padded, abs=1e-5)
    seen = dict(loglikelihoods(tiny, hiding[:1], pad_id=pad, batch=8, progress=None))[0].logps
    assert max(abs(one - other) for one, other in zip(seen, padded, strict=False)) > 1e-4
