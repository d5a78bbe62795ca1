"""Rows that come, share, grow and go in one cache, against the model on each row's whole text alone."""

from __future__ import annotations

import gc
import itertools
import weakref
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from helpers.models import tiny_llama
from transformers import LlamaForCausalLM

from meow_lightning.generation.kv_cache import PAGE, STEP, PagedCache
from meow_lightning.generation.prefix_forward import PrefixForward
from meow_lightning.generation.prefix_tree import Tree, build_prefix_trees

VOCABULARY = 48
Place = tuple[int, int]  # tree and node


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_llama(
        seed=5, intermediate_size=48, num_key_value_heads=2, vocab_size=VOCABULARY, max_position_embeddings=256,
        initializer_range=0.3, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    ).float()  # fmt: skip


def grove_of(model: Any, seed: int, *, stems: int, longest: int) -> PrefixForward:
    """Trees of a few beginnings, each with branches; some prompts are the beginnings of others."""
    generator = torch.Generator().manual_seed(seed)

    def random(least: int, most: int) -> tuple[int, ...]:
        length = int(torch.randint(least, most + 1, (), generator=generator))
        return tuple(torch.randint(1, VOCABULARY, (length,), generator=generator).tolist())

    prompts = set()
    for _ in range(stems):
        stem = random(3, longest)
        prompts |= {stem} | {stem + random(1, 3) for _ in range(3)}
    return PrefixForward(model, build_prefix_trees(prompts, most=60), pad_id=0, dtype=torch.float32)


def logits_alone(model: Any, text: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1]


@dataclass
class Table:
    """Slots with the whole text of every row beside them."""

    model: Any
    slots: PagedCache
    texts: list[list[int]]
    generator: torch.Generator

    @classmethod
    def laid(cls, model: Any, *, seed: int = 0) -> Table:
        return cls(model, PagedCache(dtype=torch.float32), [], torch.Generator().manual_seed(seed))

    def draw(self, high: int) -> int:
        return int(torch.randint(high, (), generator=self.generator))

    def admit(self, prefix_forward: PrefixForward, places: list[Place], *, sharing: bool) -> None:
        self.slots.admit(prefix_forward, places, sharing=sharing)
        for tree, node in places:
            self.texts.append(
                [prefix_forward.trees[tree].tokens[each] for each in prefix_forward.trees[tree].path(node)]
            )

    def admit_some(self, prefix_forward: PrefixForward, count: int, *, sharing: bool) -> None:
        """Rows below any nodes, those of a tree side by side."""
        trees = sorted(self.draw(len(prefix_forward.trees)) for _ in range(count))
        self.admit(
            prefix_forward, [(tree, self.draw(len(prefix_forward.trees[tree]))) for tree in trees], sharing=sharing
        )

    def keep(self, kept: list[int]) -> None:
        self.slots.keep(kept)
        self.texts = [self.texts[row] for row in kept]
        self.check_pages()

    def keep_some(self) -> None:
        self.keep([row for row in range(len(self.texts)) if self.draw(3)])

    def advance(self, steps: int = 1) -> None:
        """Any next token for every row; the logits are those of its text alone."""
        for _ in range(steps):
            tokens = [self.draw(VOCABULARY) for _ in self.texts]
            assert self.slots.get_seq_length() == max(map(len, self.texts))
            logits = self.slots.advance(self.model, tokens)
            for text, token in zip(self.texts, tokens, strict=True):
                text.append(token)
            expected = torch.stack([logits_alone(self.model, text) for text in self.texts])
            torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
            self.check_pages()

    def check_pages(self) -> None:
        """Every page in use belongs to one row, they are the first ones, and no row has more than it needs."""
        slots = self.slots
        owned = [page for pages in slots._pages for page in pages]
        assert sorted(owned) == list(range(slots._used))
        assert [len(pages) for pages in slots._pages] == [-(-length // PAGE) for length in slots._lengths]
        assert all(len(each) >= slots._used for layer in slots._stored for each in layer)


def test_the_model_is_worth_testing(model: Any) -> None:
    """What comes next depends on the first token of a long text, so a row that lost it would be found out."""
    text = [(7 * each) % VOCABULARY for each in range(40)]
    assert (logits_alone(model, text) - logits_alone(model, [9, *text[1:]])).abs().max() > 0.01


@pytest.mark.parametrize("sharing", [True, False])
def test_rows_grow_over_several_pages(model: Any, sharing: bool) -> None:
    table = Table.laid(model)
    prefix_forward = grove_of(model, 1, stems=2, longest=10)
    table.admit(prefix_forward, [(0, 0), (0, 3), (0, len(prefix_forward.trees[0]) - 1), (1, 1)], sharing=sharing)
    table.advance(steps=2 * PAGE + 3)
    assert min(map(len, table.slots._pages)) >= 3


@pytest.mark.parametrize("length", [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE])
def test_copied_paths_of_whole_pages_and_one_off(model: Any, length: int) -> None:
    tree = Tree(tuple((3 * each) % 40 + 1 for each in range(2 * PAGE)))
    prefix_forward = PrefixForward(model, [tree], pad_id=0, dtype=torch.float32)
    table = Table.laid(model)
    table.admit(prefix_forward, [(0, length - 1), (0, 0)], sharing=False)
    assert [len(pages) for pages in table.slots._pages] == [-(-length // PAGE), 1]
    table.advance(steps=2)


def test_rows_of_two_groves_shared_and_copied_come_and_go(model: Any) -> None:
    table = Table.laid(model)
    first, second = grove_of(model, 1, stems=3, longest=12), grove_of(model, 2, stems=4, longest=30)
    table.admit(first, [(0, 4), (0, 6), (1, 2)], sharing=True)
    table.advance(steps=2)
    table.admit(second, [(0, len(second.trees[0]) - 1), (2, 3)], sharing=False)  # wider than a page
    table.advance()
    table.admit(second, [(1, 1), (1, 5), (3, 2)], sharing=True)
    table.advance(steps=PAGE)
    table.keep([1, 2, 4, 5, 7])
    table.advance(steps=2)
    table.admit(second, [(3, 1), (0, 2)], sharing=True)  # the last row reads the same tree
    table.admit(first, [(2, 1)], sharing=False)
    table.advance(steps=3)
    table.keep([3, 6])  # rows that share only
    table.advance()
    table.admit(first, [(0, 0), (0, 0)], sharing=True)  # twice the same place
    table.advance(steps=2)


def test_sampling_without_unfinished_rows_and_again(model: Any) -> None:
    table = Table.laid(model)
    prefix_forward = grove_of(model, 1, stems=2, longest=10)
    for sharing in (True, False, True):
        table.admit_some(prefix_forward, 3, sharing=sharing)
        table.advance(steps=2)
        table.keep([])
        assert (table.slots._used, table.slots.get_seq_length()) == (0, 0)


def test_more_pages_than_the_store_was_made_for(model: Any) -> None:
    table = Table.laid(model)
    tree = Tree(tuple((5 * each) % 40 + 1 for each in range(3 * PAGE)))
    prefix_forward = PrefixForward(model, [tree], pad_id=0, dtype=torch.float32)
    table.admit(prefix_forward, [(0, 3 * PAGE - 1 - each) for each in range(6)], sharing=False)
    assert len(table.slots._stored[0][0]) == STEP
    table.advance()
    table.admit(prefix_forward, [(0, 2 * PAGE + 5 - each) for each in range(8)], sharing=False)
    assert table.slots._used > STEP
    table.advance(steps=2)
    there = len(table.slots._stored[0][0])
    table.keep([0, 5, 9, 13])
    table.advance(steps=2)
    assert len(table.slots._stored[0][0]) == there  # what is free is used again


@pytest.mark.parametrize("seed", range(6))
def test_any_coming_and_going(model: Any, seed: int) -> None:
    table = Table.laid(model, seed=seed)
    groves = [grove_of(model, 10 * seed + each, stems=1 + each, longest=8 + 12 * each) for each in range(3)]
    most = 0
    for _ in range(25):
        for _ in range(1 + table.draw(2)):
            prefix_forward = groves[table.draw(3)]
            table.admit_some(prefix_forward, 1 + table.draw(4), sharing=bool(table.draw(2)))
        table.advance(steps=1 + table.draw(3))
        most = max(most, len(table.texts))
        table.keep_some()
    assert most > 10


def test_order_and_company_of_rows_change_nothing(model: Any) -> None:
    prefix_forward = grove_of(model, 3, stems=3, longest=12)
    places = [(0, 2), (0, 5), (1, 1), (1, 3), (2, 0)]
    said: dict[Place, torch.Tensor] = {}
    for order, sharing in itertools.product((places, places[::-1], places[2:]), (True, False)):
        slots = PagedCache(dtype=torch.float32)
        slots.admit(prefix_forward, order, sharing=sharing)
        for place, logits in zip(order, slots.advance(model, [7] * len(order)), strict=True):
            torch.testing.assert_close(logits, said.setdefault(place, logits), atol=1e-5, rtol=0)
    assert len(said) == 5


def test_a_grove_that_no_row_reads_makes_room(model: Any) -> None:
    table = Table.laid(model)
    copied, shared = grove_of(model, 1, stems=2, longest=10), grove_of(model, 2, stems=2, longest=10)
    watched = weakref.ref(copied), weakref.ref(shared)
    table.admit(copied, [(0, 1), (1, 1)], sharing=False)
    table.admit(shared, [(0, 1), (1, 1)], sharing=True)
    table.advance()
    trunk = weakref.ref(shared.trunk(1)[0][0])
    del copied, shared
    gc.collect()
    assert [each() for each in watched] == [None, None]  # rows hold copies: of pages, or of their own tree alone
    table.advance()
    table.keep([0, 1, 3])
    gc.collect()
    assert trunk() is not None
    table.advance()
    table.keep([0, 1])
    gc.collect()
    assert trunk() is None
    table.advance()


def test_half_precision_is_near(model: Any) -> None:
    half = LlamaForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half = half.bfloat16().eval()
    tree = Tree(tuple((5 * each) % 40 + 1 for each in range(20)))
    prefix_forward = PrefixForward(half, [tree], pad_id=0, dtype=torch.bfloat16)
    slots = PagedCache(dtype=torch.bfloat16)
    slots.admit(prefix_forward, [(0, 19), (0, 4)], sharing=True)
    slots.admit(prefix_forward, [(0, 19), (0, 4)], sharing=False)
    for token in (9, 11):
        logits = slots.advance(half, [token] * 4).float()
    assert slots._stored[0][0].dtype is torch.bfloat16
    for row, length in enumerate([20, 5, 20, 5]):
        expected = logits_alone(model, [*tree.tokens[:length], 9, 11])
        assert (logits[row] - expected).abs().max() < 0.1 * expected.abs().max()
