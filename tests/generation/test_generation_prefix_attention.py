"""Attention over trunks and pages against softmax attention written out row by row."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from helpers.models import tiny_llama, tiny_sizes
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaForCausalLM,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from meow_lightning.generation.capabilities import dtype_of, supports_prefix_sharing
from meow_lightning.generation.engine import Continuation, continue_greedily
from meow_lightning.generation.prefix_attention import (
    FOREIGN,
    NAME,
    PageLayout,
    Trunk,
    attach_context,
    attached_context,
    attend,
    attention_implementation,
)

ROOM, SIZE = 4, 8  # tokens of a page, width of a head
SIZES = tiny_sizes(
    intermediate_size=48, num_key_value_heads=2, head_dim=SIZE, vocab_size=64, max_position_embeddings=96,
    bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.3,
)  # fmt: skip
EAGER: dict[str, Any] = {"attn_implementation": "eager"}


@dataclasses.dataclass(frozen=True)
class Case:
    """What ``attend`` is called with, and where each row's keys and values lie."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    trunks: list[Trunk]
    layout: PageLayout
    pages: list[list[int]]  # by row
    lengths: list[int]  # tokens of a row's own
    seen: list[list[int]]  # by row, nodes of its trunk

    def said(self, scaling: float) -> torch.Tensor:
        return attend(
            self.query, self.key, self.value, trunks=self.trunks, layout=self.layout, scaling=scaling
        )  # fmt: skip

    def expected(self, scaling: float) -> torch.Tensor:
        """Row by row and head by head in fp64."""
        rows, heads, _, size = self.query.shape
        said = torch.zeros(rows, 1, heads, size, dtype=torch.float64)
        for row, head in itertools.product(range(rows), range(heads)):
            group = head // (heads // self.key.shape[1])
            keys, values = [], []
            for trunk in self.trunks:
                if trunk.start <= row < trunk.end:
                    keys += [trunk.keys[group, node] for node in self.seen[row]]
                    values += [trunk.values[group, node] for node in self.seen[row]]
            for token in range(self.lengths[row]):
                page, place = self.pages[row][token // ROOM], token % ROOM
                keys.append(self.key[page, group, place])
                values.append(self.value[page, group, place])
            scores = torch.stack(keys).double() @ self.query[row, head, 0].double() * scaling
            said[row, 0, head] = torch.softmax(scores, 0) @ torch.stack(values).double()
        return said


def case(
    lengths: list[int],
    trunks: list[tuple[int, int, int]],
    *,
    groups: int,
    dtype: torch.dtype = torch.float32,
    shuffled: bool = True,
    seed: int = 0,
) -> Case:
    """A case of 4 heads.

    Args:
        lengths: Tokens of each row's own.
        trunks: First row, one past the last, nodes of each.
        groups: Key heads.
        shuffled: Whether a row's pages stand anywhere among those of the others.
        seed: Of all numbers.
    """
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    needed = [-(-length // ROOM) for length in lengths]
    total = sum(needed)
    numbers = torch.randperm(total, generator=generator).tolist() if shuffled else list(range(total))
    pages = [[numbers.pop() for _ in range(count)] for count in needed]
    width = max((nodes for _, _, nodes in trunks), default=0)
    least = torch.finfo(dtype).min
    seen_BN = torch.full((len(lengths), width), least, dtype=dtype)  # noqa: N806
    seen: list[list[int]] = [[] for _ in lengths]
    for start, end, nodes in trunks:
        for row in range(start, end):
            seen[row] = sorted(torch.randperm(nodes, generator=generator)[: 1 + row % nodes].tolist())
            seen_BN[row, seen[row]] = 0
    key, value = 4 * random(total, groups, ROOM, SIZE), 9 * random(total, groups, ROOM, SIZE)  # empty places are loud
    used_P1S = torch.full((total, 1, ROOM), least, dtype=dtype)  # noqa: N806
    row_P, number_P = torch.zeros(total, dtype=torch.long), torch.zeros(total, dtype=torch.long)  # noqa: N806
    for row, (mine, length) in enumerate(zip(pages, lengths, strict=True)):
        for number, page in enumerate(mine):
            filled = min(ROOM, length - number * ROOM)
            row_P[page], number_P[page] = row, number
            used_P1S[page, 0, :filled] = 0
            key[page, :, :filled] = random(groups, filled, SIZE)
            value[page, :, :filled] = random(groups, filled, SIZE)
    return Case(
        query=random(len(lengths), 4, 1, SIZE),
        key=key,
        value=value,
        trunks=[Trunk(start, end, random(groups, n, SIZE), random(groups, n, SIZE)) for start, end, n in trunks],
        layout=PageLayout(seen_BN=seen_BN, row_P=row_P, number_P=number_P, pages=max(needed), used_P1S=used_P1S),
        pages=pages, lengths=lengths, seen=seen,
    )  # fmt: skip


CASES: dict[str, tuple[list[int], list[tuple[int, int, int]]]] = {
    "a single token": ([1], []),
    "no trunk": ([1, 4, 5, 11], []),
    "no trunk, as many pages each": ([7, 8, 6], []),
    "one trunk for all": ([1, 2, 9], [(0, 3, 6)]),
    "one trunk, one reader": ([3], [(0, 1, 1)]),
    "trunks of unlike size": ([2, 1, 5, 4, 1, 1], [(0, 2, 3), (2, 6, 17)]),
    "rows without in between": ([9, 1, 2, 13, 6, 1, 3, 8], [(1, 3, 5), (4, 5, 12), (6, 7, 2)]),
    "two trunks for different rows of many pages": ([30, 1, 30], [(0, 1, 40), (2, 3, 7)]),
}


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("name", list(CASES))
def test_attention_is_that_of_every_row_alone(name: str, groups: int) -> None:
    lengths, trunks = CASES[name]
    for seed in range(3):
        given = case(lengths, trunks, groups=groups, seed=seed)
        torch.testing.assert_close(given.said(0.7).double(), given.expected(0.7), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", list(CASES))
def test_in_half_precision_too(name: str) -> None:
    lengths, trunks = CASES[name]
    given = case(lengths, trunks, groups=2, dtype=torch.bfloat16)
    assert given.said(0.5).dtype is torch.bfloat16
    torch.testing.assert_close(given.said(0.5).double(), given.expected(0.5), atol=0.03, rtol=0.03)


def test_the_position_of_a_page_changes_nothing() -> None:
    orderly = case([9, 3, 17], [(1, 3, 4)], groups=2, shuffled=False)
    order = [5, 2, 8, 0, 7, 1, 4, 6, 3]
    layout = dataclasses.replace(
        orderly.layout,
        row_P=orderly.layout.row_P[order],
        number_P=orderly.layout.number_P[order],
        used_P1S=orderly.layout.used_P1S[order],
    )
    moved = attend(
        orderly.query, orderly.key[order], orderly.value[order], trunks=orderly.trunks, layout=layout, scaling=1.0
    )
    torch.testing.assert_close(moved, orderly.said(1.0), atol=2e-6, rtol=0)


def test_a_row_of_one_token_ignores_the_rest_of_its_page() -> None:
    given = case([1, 6], [], groups=4)
    said = given.said(1.0)
    torch.testing.assert_close(said[0, 0], given.value[given.pages[0][0], :, 0])


def test_worked_out_by_hand() -> None:
    """Scores ln 3 for the one visible node and 0 for the own token: 3/4 of the node's value, 1/4 of the own."""
    query = torch.tensor([[[[1.0, 0.0]]]])
    trunk = Trunk(0, 1, torch.tensor([[[9.0, 9.0], [3.0, 5.0]]]).log(), torch.tensor([[[7.0, 7.0], [4.0, 0.0]]]))
    least = torch.finfo(torch.float32).min
    layout = PageLayout(
        seen_BN=torch.tensor([[least, 0.0]]), row_P=torch.tensor([0]), number_P=torch.tensor([0]), pages=1,
        used_P1S=torch.tensor([[[0.0, least]]]),
    )  # fmt: skip
    key, value = torch.zeros(1, 1, 2, 2), torch.tensor([[[[0.0, 8.0], [100.0, 100.0]]]])
    said = attend(query, key, value, trunks=[trunk], layout=layout, scaling=1.0)
    torch.testing.assert_close(said, torch.tensor([[[[3.0, 2.0]]]]))


def test_as_transformers_calls_it() -> None:
    given = case([2, 5], [(0, 2, 3)], groups=2)
    key = attach_context(given.key, given.trunks, given.layout)
    assert attached_context(key) == (given.trunks, given.layout)
    module, mask = torch.nn.Identity(), torch.zeros(1)
    kind = ALL_ATTENTION_FUNCTIONS[NAME]
    said, weights = kind(module, given.query, key, given.value, mask, scaling=None, dropout=0.0, softcap=None)
    assert weights is None
    assert torch.equal(said, given.said(SIZE**-0.5))
    assert torch.equal(kind(module, given.query, key, given.value, mask, scaling=0.2)[0], given.said(0.2))
    with pytest.raises(AttributeError):
        kind(module, given.query, given.key.clone(), given.value, mask)


@pytest.mark.parametrize("name", FOREIGN)
def test_attention_arguments_are_refused(name: str) -> None:
    given = case([2], [], groups=4)
    with pytest.raises(ValueError, match="not a plain softmax of scaled products"):
        ALL_ATTENTION_FUNCTIONS[NAME](
            torch.nn.Identity(), given.query, given.key, given.value, torch.zeros(1), **{name: 30.0}
        )


@pytest.mark.parametrize("before", ["sdpa", "eager"])
def test_the_kind_of_attention_comes_back(before: str) -> None:
    model = tiny_llama(**SIZES, attn_implementation=before)
    with attention_implementation(model, NAME):
        assert model.config._attn_implementation == NAME
    assert model.config._attn_implementation == before
    with pytest.raises(KeyError), attention_implementation(model, NAME):
        raise KeyError
    assert model.config._attn_implementation == before


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(4)
    texts = [torch.randint(3, 64, (24,), generator=generator).tolist() for _ in range(4)]
    return [text[:length] for text in texts for length in (3, 9, 10, 16, 24)]


def run(model: Any, **changes: Any) -> dict[int, Continuation]:
    settings: dict[str, Any] = {
        "budgets": [12] * len(prompts()), "end_ids": frozenset({2}), "pad_id": 0, "slots": 8, "progress": None
    }  # fmt: skip
    return dict(continue_greedily(model, prompts(), **{**settings, **changes}))


def plain(model: Any, prompt: list[int]) -> list[int]:
    """All tokens that generation says after one prompt, the end token included."""
    ids = torch.tensor([prompt])
    said = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, eos_token_id=2, pad_token_id=0
    )  # fmt: skip
    return said[0, len(prompt) :].tolist()


def with_end(continuation: Continuation) -> list[int]:
    return [*continuation.ids, *([] if continuation.end is None else [continuation.end])]


def test_between_two_results_the_model_is_as_it_was() -> None:
    model = eager_llama(LlamaForCausalLM)
    assert supports_prefix_sharing(model, prompts()[-1], pad_id=0, dtype=torch.float32)
    pairs = continue_greedily(
        model, prompts(), budgets=[12] * len(prompts()), end_ids=frozenset({2}), pad_id=0, slots=2, progress=None
    )
    for _ in itertools.islice(pairs, 5):
        assert model.config._attn_implementation == "eager"
    ids = torch.tensor([[5, 6, 7]])
    assert model(input_ids=ids, output_attentions=True).attentions[0].shape == (1, 4, 3, 3)


class Capped(LlamaForCausalLM):
    """Asks its attention for a cap; its own written-out attention leaves it out, so that numbers show nothing."""

    def forward(self, **inputs: Any) -> Any:
        return super().forward(softcap=50.0, **inputs)


def eager_llama(kind: type[LlamaForCausalLM]) -> Any:
    torch.manual_seed(1)
    return tiny_llama(kind, **SIZES, **EAGER)


def test_a_model_that_asks_for_more_is_refused_and_goes_the_plain_way() -> None:
    assert supports_prefix_sharing(eager_llama(LlamaForCausalLM), prompts()[-1], pad_id=0, dtype=torch.float32)
    model = eager_llama(Capped)
    assert dtype_of(model) is torch.float32  # the configuration does not tell: the trial does
    assert not supports_prefix_sharing(model, prompts()[-1], pad_id=0, dtype=torch.float32)
    assert model.config._attn_implementation == "eager"
    found = run(model)
    assert [with_end(found[index]) for index in range(len(prompts()))] == [plain(model, each) for each in prompts()]


def capped() -> Any:
    return Gemma2ForCausalLM(Gemma2Config(attn_logit_softcapping=2.0, sliding_window=90, **SIZES))


def with_sinks() -> Any:
    more: dict[str, Any] = {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 90}
    return GptOssForCausalLM(GptOssConfig(rope_parameters={"rope_type": "default", "rope_theta": 1e4}, **more, **SIZES))


def with_slopes() -> Any:
    return BloomForCausalLM(BloomConfig(n_layer=2, n_head=4, **SIZES))


def with_windows() -> Any:
    """Every other layer sees ten tokens, more than the trial shows it, and its configuration has a name of its own."""
    kinds = [[["global", "local"], 1]]
    return GPTNeoForCausalLM(GPTNeoConfig(num_layers=2, num_heads=4, window_size=10, attention_types=kinds, **SIZES))


@pytest.mark.parametrize("build", [capped, with_sinks, with_slopes, with_windows])
def test_models_with_another_attention_go_the_plain_way(build: Any) -> None:
    torch.manual_seed(1)
    model = build().float().eval()
    dtype = dtype_of(model)
    assert dtype is None or not supports_prefix_sharing(model, prompts()[-1], pad_id=0, dtype=dtype)
    before = model.config._attn_implementation
    found = run(model)
    assert [with_end(found[index]) for index in range(len(prompts()))] == [plain(model, each) for each in prompts()]
    assert model.config._attn_implementation == before
