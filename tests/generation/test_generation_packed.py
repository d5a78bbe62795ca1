"""Packed rows are as likely as rows by themselves, whatever they share, and models that cannot be packed are found."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.model_families import FAMILIES, save_family
from helpers.models import tiny_llama, tiny_sizes
from transformers import AutoModelForCausalLM, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from meow_lightning.evaluation import loglikelihood
from meow_lightning.evaluation.loglikelihood import loglikelihoods
from meow_lightning.generation.packed import NAME, attend, hidden_states, is_worthwhile, pack, supports_packing
from meow_lightning.types import Encoded, Likelihood

CPU = torch.device("cpu")
SIZES = tiny_sizes(vocab_size=96)


def answers(prompt: list[int], *lengths: int, start: int) -> list[Encoded]:
    """Rows of one prompt; the tokens of an answer depend on ``start``."""
    said = [[(start + 7 * at + 3 * length) % 90 + 2 for at in range(length)] for length in lengths]
    return [Encoded((*prompt, *each, 1), len(prompt)) for each in said]


MANY = answers([5, 9, 4, 33, 21, 8, 60, 7, 11, 2], 6, 3, 1, 0, 9, start=4)  # one is empty but for its end
FEW = answers([5, 9, 4, 33, 50], 12, 4, start=11)
LONE = answers([40, 3, 5], 7, start=2)
TWICE = answers([17], 2, 2, start=5)
# neither sorted nor side by side
ROWS = [*MANY[:2], *LONE, *FEW[:1], *MANY[2:], *TWICE, *FEW[1:], *answers([61, 62, 63, 64], 40, start=1)]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = save_family(request.param, tmp_path_factory.mktemp("family"), texts=["Who was Ada?", "Ada wrote books."])
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()


def score(model: Any, rows: list[Encoded], patch: pytest.MonkeyPatch, *, way: str, batch: int = 64) -> list[Likelihood]:
    """The likelihoods in the order of the rows: ``padded``, packed without sharing (``apart``), or ``shared``."""
    with patch.context() as within:
        if way == "padded":
            within.setattr(loglikelihood, "supports_packing", lambda *_: False)
        if way in ("apart", "shared"):
            within.setattr(loglikelihood, "is_worthwhile", lambda *_, **__: way == "shared")
        found = dict(loglikelihoods(model, rows, pad_id=0, batch=batch, progress=None))
    assert sorted(found) == list(range(len(rows)))
    return [found[i] for i in range(len(rows))]


def assert_equal(mine: list[Likelihood], other: list[Likelihood], *, within: float) -> None:
    for one, two in zip(mine, other, strict=True):
        assert list(one.ids) == list(two.ids)
        assert list(one.hits) == list(two.hits)
        for name in ("logps", "mean", "std"):
            assert list(getattr(one, name)) == pytest.approx(list(getattr(two, name)), abs=within, rel=0)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("way", ["apart", "shared", "as it comes"])
def test_packed_rows_are_as_likely_as_padded_ones(
    family: Any, way: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert supports_packing(family, ROWS[0].ids)
    plain = score(family, ROWS, monkeypatch, way="padded")
    assert_equal(score(family, ROWS, monkeypatch, way=way, batch=batch), plain, within=1e-10)


def test_and_as_a_row_by_itself(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for row, found in zip(ROWS, score(family, ROWS, monkeypatch, way="shared"), strict=True):
        logps = family(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        expected = logps[range(row.prompt - 1, len(row.ids) - 1), row.ids[row.prompt :]]
        assert found.logps == pytest.approx(expected.tolist(), abs=1e-10)


def test_one_answer_per_prompt(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*LONE, *MANY[:1], *FEW[:1]]
    plain = score(family, rows, monkeypatch, way="padded")
    assert_equal(score(family, rows, monkeypatch, way="shared"), plain, within=1e-10)


def test_fp32_is_equal_to_rounding_and_half_precision_nearly(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        for dtype, within in ((torch.float32, 1e-5), (torch.bfloat16, 0.1)):
            family.to(dtype)
            plain, shared = (score(family, ROWS, monkeypatch, way=way) for way in ("padded", "shared"))
            for one, two in zip(shared, plain, strict=True):
                assert list(one.logps) == pytest.approx(list(two.logps), abs=within)
    finally:
        family.to(torch.float64)


def test_more_rows_than_a_lot_of_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = tiny_llama(**SIZES).double()
    rows = [row for start in range(9) for row in answers([start, 3, 4 + start], 2, 5 + start, 9, 1, start=start)]
    plain = score(model, rows, monkeypatch, way="padded")
    assert_equal(score(model, rows, monkeypatch, way="shared"), plain, within=1e-10)


def test_shared_prefixes_are_read_once_without_padding(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    seen: list[int] = []
    hooks = [
        family.base_model.register_forward_pre_hook(
            lambda _, __, given: read.append(given["input_ids"].numel()), with_kwargs=True
        ),
        family.get_output_embeddings().register_forward_pre_hook(
            lambda _, given: seen.append(given[0].shape[:-1].numel())
        ),
    ]
    try:
        monkeypatch.setattr(loglikelihood, "supports_packing", lambda *_: True)  # no trial
        score(family, [*MANY, *FEW], monkeypatch, way="shared")
        assert sum(read) == 10 + (6 + 3 + 1 + 0 + 9) + 5 + (12 + 4)
        assert sum(seen) == sum(row.scored for row in (*MANY, *FEW))
        read.clear()
        score(family, [*MANY, *FEW], monkeypatch, way="apart")
        assert sum(read) == sum(len(row.ids) - 1 for row in (*MANY, *FEW))
    finally:
        for hook in hooks:
            hook.remove()


def test_small_blocks_of_logits_change_nothing(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = score(family, ROWS, monkeypatch, way="as it comes")
    monkeypatch.setattr(loglikelihood, "MIN_POSITIONS", 1)
    monkeypatch.setitem(loglikelihood.BLOCK, "cpu", 1)
    for way in ("padded", "as it comes"):
        assert_equal(score(family, ROWS, monkeypatch, way=way), whole, within=1e-10)


def test_a_batch_by_hand() -> None:
    # Prompt 7 8 with the answers 1 and 2 3, and the row 4 5 6 whose last token is the only one scored; 9 ends all.
    pair, lone = [Encoded((7, 8, 1, 9), 2), Encoded((7, 8, 2, 3, 9), 2)], [Encoded((4, 5, 6, 9), 3)]
    found = pack([pair, lone], device=CPU)
    assert found.ids_1T.tolist() == [[7, 8, 1, 2, 3, 4, 5, 6]]
    assert found.positions_1T.tolist() == [[0, 1, 2, 2, 3, 0, 1, 2]]
    assert found.before_N.tolist() == [1, 2, 1, 3, 4, 7]
    stems, branches = found.layout.groups
    assert stems.seen_B1TS is None
    assert stems.query_BT.tolist() == stems.key_BS.tolist() == [[0, 1, 0], [5, 6, 7]]
    assert (stems.real.tolist(), stems.places.tolist()) == ([0, 1, 3, 4, 5], [0, 1, 5, 6, 7])
    assert branches.query_BT.tolist() == [[2, 2], [3, 4]]
    assert branches.key_BS.tolist() == [[0, 1, 2, 2], [0, 1, 3, 4]]
    assert branches.seen_B1TS is not None
    assert branches.seen_B1TS[1, 0].int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert (branches.real.tolist(), branches.places.tolist()) == ([0, 2, 3], [2, 3, 4])


def test_a_first_token_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="first token of a row cannot be scored"):
        pack([LONE, [Encoded((4, 1), 0)]], device=CPU)


def test_attention_by_hand() -> None:
    # Keys of 0 look at all alike, so what is said is the mean of the values in sight; the value of token n is n.
    pair = [Encoded((7, 8, 1, 9), 2), Encoded((7, 8, 2, 3, 9), 2)]
    layout = pack([pair], device=CPU).layout
    query, key = torch.randn(1, 2, 5, 4), torch.zeros(1, 1, 5, 4)
    value = torch.tensor([7.0, 8, 1, 2, 3])[None, None, :, None].expand(1, 1, 5, 4)
    said = attend(query, key, value, layout=layout, scaling=0.5)
    assert said.shape == (1, 5, 2, 4)
    assert said[0, :, 1, 3].tolist() == pytest.approx([7, 15 / 2, 16 / 3, 17 / 3, 5])


def test_when_a_shared_prompt_pays() -> None:
    # Prompt of 10, two answers that read 4 more tokens each. Shared: 10 * 10 / 2 + 2 * 4 * 14 = 162 pairs; apart:
    # 2 * 14 * 14 / 2 = 196. So it adds none.
    assert is_worthwhile(answers(list(range(2, 12)), 4, 4, start=0), hidden=1)
    # Prompt of 2, answers that read 20 tokens: 2 + 2 * 20 * 22 = 882 against 2 * 22 * 22 / 2 = 484, with 2 saved.
    long = answers([2, 3], 20, 20, start=0)
    assert not is_worthwhile(long, hidden=199)
    assert is_worthwhile(long, hidden=200)


def test_attention_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_llama(**SIZES, attn_implementation="eager")
    score(model, MANY, monkeypatch, way="shared")
    assert model.config._attn_implementation == "eager"


class Halved(LlamaForCausalLM):
    """A model that does something to the logits of its head."""

    def forward(self, *arguments: Any, **named: Any) -> Any:
        found = super().forward(*arguments, **named)
        found.logits = found.logits / 2
        return found


def test_models_that_cannot_be_packed_are_scored_all_the_same(table_lm: Any) -> None:
    torch.manual_seed(0)
    halved = tiny_llama(Halved, **SIZES).double()
    sliding = MistralForCausalLM(MistralConfig(**SIZES, num_key_value_heads=4, sliding_window=4)).eval().double()
    for model in (halved, sliding):
        assert not supports_packing(model, MANY[0].ids)
        found = dict(loglikelihoods(model, MANY, pad_id=0, batch=3, progress=None))
        for i, row in enumerate(MANY):
            logps = model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
            expected = logps[range(row.prompt - 1, len(row.ids) - 1), row.ids[row.prompt :]]
            assert found[i].logps == pytest.approx(expected.tolist(), abs=1e-10)
    assert not supports_packing(table_lm([[0.0]]), [0])


def test_an_attention_of_its_own_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = tiny_llama(**SIZES)
    batch = pack([MANY], device=CPU)
    layer = model.model.layers[1].self_attn
    monkeypatch.setattr(layer, "forward", lambda hidden_states, **_: (torch.zeros_like(hidden_states), None))
    with pytest.raises(ValueError, match="its own attention, which mistakes a packed batch for one text"):
        hidden_states(model, batch)
    assert not supports_packing(model, MANY[0].ids)


def test_more_than_a_softmax_is_refused() -> None:
    attention = likelihood_attention()
    states = torch.zeros(1, 1, 1, 4)
    layout = pack([[Encoded((1, 2), 1)]], device=CPU).layout
    for rest in ({"softcap": 3.0, "layout": layout}, {}):
        with pytest.raises(ValueError, match="attention is not a plain softmax of scaled products, or does not"):
            attention(SimpleNamespace(), states, states, states, None, **rest)


def likelihood_attention() -> Any:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return ALL_ATTENTION_FUNCTIONS[NAME]


@pytest.mark.parametrize("vocabulary", [64, 192, 100])
def test_of_equal_logits_the_first_is_the_choice(vocabulary: int) -> None:
    logits = torch.randint(3, (50, vocabulary), generator=torch.Generator().manual_seed(0)).float()
    assert loglikelihood._argmax(logits).tolist() == logits.argmax(-1).tolist()
    first = [row.tolist().index(max(row.tolist())) for row in logits]
    assert loglikelihood._argmax(logits).tolist() == first
