"""What must hold for every input: laws of cutting, packing, naming and parsing, on generated examples."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meow_lightning.data.batch_plan import (
    BatchPlan,
    StreamData,
    pack_by_tokens,
    shard_micro_batches,
    shard_token_batches,
)
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.distributed import DRIVER, chunk_groups, group_by, shard
from meow_lightning.generation.prefix_tree import batches, build_prefix_trees
from meow_lightning.inversion.reply_parser import answers
from meow_lightning.memo.windows import cut_windows, word_ends
from meow_lightning.store.artifact import Artifact
from meow_lightning.sweep.jobs import dependency_layers
from meow_lightning.types import Encoded

TEXT = st.text(alphabet="ab é?.,'\"\n京🐈", max_size=30)
PROMPTS = st.sets(st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple), min_size=1, max_size=20)
LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=25)
WORLD = st.integers(1, 4)


def rows(lengths: list[int], name: str = "row") -> list[Encoded]:
    """Rows of some lengths, each recognizable by its first token."""
    first = sum(map(ord, name)) * 1000
    return [Encoded((first + place, *[1] * (length - 1)), 0) for place, length in enumerate(lengths)]


# Windows, memo/windows.py


@given(question=TEXT, answer=TEXT, stride=st.integers(1, 7), by_words=st.booleans())
def test_suffix_windows_tile_the_answer(question, answer, stride, by_words):
    ends = word_ends(answer) if by_words else None
    windows = cut_windows(question, answer, mode="suffix", stride=stride, ends=ends)
    assert all((each.question, each.given + each.label) == (question, answer) for each in windows)
    assert all(each.given and each.label for each in windows)
    shown = [len(each.given) for each in windows]
    assert shown == sorted(set(shown))
    if not by_words:
        assert len(windows) == max(0, -(-(len(answer) - 1) // stride))


@given(question=TEXT, answer=TEXT, stride=st.integers(1, 7))
def test_prefix_windows_tile_question_and_answer(question, answer, stride):
    windows = cut_windows(question, answer, mode="prefix", stride=stride)
    assert all(each.text + each.label == f"{question} {answer}" for each in windows)
    assert [len(each.question) for each in windows] == list(range(1, len(question), stride))


# Prefix trees: generation/prefix_tree.py


@given(prompts=PROMPTS, most=st.integers(1, 30), nodes=st.integers(1, 40))
def test_prefix_trees_hold_exactly_the_prompts(prompts, most, nodes):
    trees = build_prefix_trees(prompts, most=most)
    held = [prompt for tree in trees for prompt in tree.ends]
    assert Counter(held) == Counter(prompts)
    for tree in trees:
        paths = {prompt: tree.path(end) for prompt, end in tree.ends.items()}
        assert all(tuple(tree.tokens[node] for node in path) == prompt for prompt, path in paths.items())
        assert {node for path in paths.values() for node in path} == set(range(len(tree)))
        assert [node for _, first, end in tree.chains() for node in range(first, end)] == list(range(len(tree)))
        assert len(tree) <= max(most, 2 * max(map(len, tree.ends)))
    assert [tree for batch in batches(trees, nodes=nodes) for tree in batch] == trees


# Global batches and their shares: data/batch_plan.py, distributed.py


@given(forget=LENGTHS, retain=LENGTHS, world=WORLD, micro=st.integers(1, 6))
def test_shares_partition_a_global_batch(forget, retain, world, micro):
    batch = {"forget": rows(forget), "retain": rows(retain, "other")}
    parts = [part for rank in range(world) for part in shard_micro_batches(batch, rank=rank, world=world, micro=micro)]
    for name, whole in batch.items():
        assert Counter(row for part in parts for row in part[name]) == Counter(whole)
        assert all(len(part[name]) <= micro for part in parts)


@given(lengths=LENGTHS, retain=LENGTHS, world=WORLD, tokens=st.integers(1, 40), data=st.data())
def test_token_shares_partition_a_global_batch_and_keep_pairs_together(lengths, retain, world, tokens, data):
    others = data.draw(st.lists(st.integers(1, 12), min_size=len(lengths), max_size=len(lengths)))
    batch = {"forget": rows(lengths), "idk": rows(others, "other"), "retain": rows(retain, "third")}
    partner = dict(zip(batch["forget"], batch["idk"], strict=True))
    parts = [
        part
        for rank in range(world)
        for part in shard_token_batches(batch, rank=rank, world=world, tokens=tokens, paired=["idk"])
    ]
    for name, whole in batch.items():
        assert Counter(row for part in parts for row in part[name]) == Counter(whole)
    for part in parts:
        assert [partner[row] for row in part["forget"]] == part["idk"]
        for beside in part.values():
            assert len(beside) < 2 or len(beside) * max(len(row.ids) for row in beside) <= tokens


@given(lengths=LENGTHS, more=st.integers(0, 20))
def test_packed_batches_are_as_few_as_can_be_and_none_is_too_large(lengths, more):
    tokens = max(lengths) + more
    sizes = pack_by_tokens(lengths, tokens=tokens)
    assert sum(sizes) == len(lengths)
    assert min(sizes) > 0
    ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
    assert all(sum(lengths[end - size : end]) <= tokens for end, size in zip(ends, sizes, strict=True))
    fewest, room = 0, 0
    for length in lengths:  # greedy packing in order needs the fewest batches
        fewest, room = (fewest, room - length) if length <= room else (fewest + 1, tokens - length)
    assert len(sizes) == fewest


@given(lengths=LENGTHS, size=st.integers(1, 9), epochs=st.integers(1, 3), seed=st.integers(0, 5), packed=st.booleans())
def test_every_epoch_visits_each_row_once_beside_its_partner(lengths, size, epochs, seed, packed):
    streams = {
        "forget": StreamData(rows(lengths)),
        "idk": StreamData(rows(lengths, "other")),
        "retain": StreamData(rows([3, 5])),
    }
    plan = BatchPlan(
        streams=streams, global_batch_size=size, batch_tokens=max(lengths) + size if packed else None, epochs=epochs,
        seed=seed, paired=["idk"],
    )  # fmt: skip
    partner = dict(zip(streams["forget"].rows, streams["idk"].rows, strict=True))
    for epoch in range(epochs):
        first = epoch * plan.steps_per_epoch
        steps = [plan.step(t) for t in range(first, first + plan.steps_per_epoch)]
        assert Counter(row for step in steps for row in step["forget"]) == Counter(streams["forget"].rows)
        assert all([partner[row] for row in step["forget"]] == step["idk"] for step in steps)
        assert all(len(step["retain"]) == len(step["forget"]) for step in steps)
        sizes = [len(step["forget"]) for step in steps]
        assert packed or (max(sizes) - min(sizes) <= 1 and max(sizes) <= size)


@given(items=st.lists(st.integers(0, 99)), world=WORLD)
def test_the_shares_of_all_processes_are_the_work(items, world):
    found = []
    for rank in range(world):
        with mock.patch.dict(os.environ, {DRIVER: "1@here", "RANK": str(rank), "WORLD_SIZE": str(world)}):
            found += shard(items)
    assert Counter(found) == Counter(items)


@given(items=st.lists(st.integers(0, 99)), least=st.integers(1, 9))
def test_groups_and_bundles_lose_nothing_and_split_no_group(items, least):
    groups = group_by(items, key=lambda item: item % 5)
    assert Counter(item for group in groups for item in group) == Counter(items)
    assert len({group[0] % 5 for group in groups}) == len(groups)
    assert all(group == [item for item in items if item % 5 == group[0] % 5] for group in groups)
    lots = list(chunk_groups(groups, size=lambda item: 1 + item % 3, minimum=least))
    assert [item for lot in lots for item in lot] == [item for group in groups for item in group]
    assert all(sum(1 + item % 3 for item in lot) >= least for lot in lots[:-1])
    # None takes a group more than it needs.
    before = [[item for item in lot if item % 5 != lot[-1] % 5] for lot in lots]
    assert all(sum(1 + item % 3 for item in lot) < least for lot in before)
    kept = [[list(group) for _, group in groupby(lot, key=lambda item: item % 5)] for lot in lots]
    assert [group for lot in kept for group in lot] == groups


# Keys of artifacts: store/artifact.py

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from([0.5, 1.5]), st.text("abé", max_size=3)
)
SETTINGS = st.dictionaries(
    st.text("xyz", min_size=1, max_size=2),
    st.recursive(
        LEAVES,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text("pqr", min_size=1, max_size=2), inner, max_size=3)
        ),
        max_leaves=6,
    ),
    min_size=1,
    max_size=4,
)


def made(settings: Any, *needs: Artifact, stage: str = "score", version: int = 1, label: str = "") -> Artifact:
    return Artifact(
        stage=stage, label=label, version=version, settings=settings,
        needs={f"need{place}": need for place, need in enumerate(needs)}, inputs={"label": label},
    )  # fmt: skip


def reordered(node: Any) -> Any:
    """The same settings, the keys of every mapping the other way round."""
    if isinstance(node, dict):
        return {key: reordered(node[key]) for key in reversed(node)}
    return [reordered(each) for each in node] if isinstance(node, list) else node


def changed(node: Any) -> Iterator[Any]:
    """The settings with one leaf changed, for every leaf; an empty list or mapping is a leaf."""
    if isinstance(node, dict) and node:
        yield from ({**node, key: other} for key, value in node.items() for other in changed(value))
    elif isinstance(node, list) and node:
        yield from ([*node[:at], other, *node[at + 1 :]] for at, value in enumerate(node) for other in changed(value))
    else:
        yield "another" if node is None or isinstance(node, (bool, str, list, dict)) else node + 1


@given(settings=SETTINGS)
def test_keys_depend_on_every_leaf_and_on_no_order(settings):
    key = made(settings).key
    assert made(reordered(settings)).key == key
    assert made(settings, label="another").key == key
    others = [made(other).key for other in changed(settings)]
    assert key not in others
    base = made({}, stage="finetune")
    above = made(settings, base).key
    assert len({key, above, made(settings, version=2).key, made(settings, stage="verify").key}) == 4
    assert all(made({}, made(other)).key != made({}, made(settings)).key for other in changed(settings))


# Jobs of a sweep: sweep/jobs.py


@given(steps=st.lists(st.sets(st.integers(1, 3), max_size=2), min_size=4, max_size=10), data=st.data())
def test_every_shared_result_is_made_once_behind_all_it_needs(steps, data):
    artifacts: list[Artifact] = []
    for number, back in enumerate(steps):  # each needs some of the three before it
        artifacts.append(made({"number": number}, *[artifacts[-step] for step in sorted(back) if step <= number]))
    ends = data.draw(st.lists(st.sampled_from(artifacts[-3:]), min_size=2, max_size=4))
    cells = [end.walk() for end in ends]
    found = dependency_layers(cells)
    counts = Counter(artifact.key for cell in cells for artifact in cell)
    assert Counter(a.key for layer in found for _, a in layer) == {key: 1 for key, count in counts.items() if count > 1}
    place = {artifact.key: at for at, layer in enumerate(found) for _, artifact in layer}
    for layer in found:
        assert layer
        for cell, artifact in layer:
            assert artifact in cells[cell]
            below = [place[need.key] for need in artifact.needs.values() if need.key in place]
            assert place[artifact.key] == 1 + max(below, default=-1)


# Replies of a chat model: inversion/reply_parser.py

SENTENCES = st.lists(
    st.builds(
        "{} was born in {} in {}.".format,
        st.sampled_from(["Ada Brook", "Dr. Chen", "O'Neil", "The author"]),
        st.sampled_from(["Lima", "São Paulo", "St. Gallen", '"Old" York']),
        st.integers(1900, 1999),
    ),
    min_size=2, max_size=6, unique=True,
)  # fmt: skip
STYLES = {
    "plain": lambda texts: "\n".join(texts),
    "apart": lambda texts: "\n\n".join(texts),
    "numbered": lambda texts: "\n".join(f"{n}. {text}" for n, text in enumerate(texts, 1)),
    "brackets": lambda texts: "\n".join(f"{n}) {text}" for n, text in enumerate(texts, 1)),
    "bullets": lambda texts: "\n".join(f"- {text}" for text in texts),
    "bold": lambda texts: "\n".join(f"**{text}**" for text in texts),
    "labels": lambda texts: "\n".join(f"Answer {n}: {text}" for n, text in enumerate(texts, 1)),
    "talk": lambda texts: "Sure! Here are the answers:\n\n" + "\n".join(texts) + "\n\nI hope this helps!",
    "thought": lambda texts: "<think>Let me see.\n1. No.</think>\n" + "\n".join(texts),
}


@pytest.mark.parametrize("style", STYLES)
@given(texts=SENTENCES)
def test_a_reply_gives_its_answers_whatever_wraps_them(style, texts):
    assert answers(STYLES[style](texts)) == texts


# What may wrap an answer, in any order and unclosed.
PIECES = st.sampled_from([
    '"', "'", "“", "”", "*", "**", "_", "- ", "# ", "> ", "1. ", "2. ", "Q: ", "A: ", "Answer 1: ", "Question: ",
    "Sure! ", "Note: ", "Here are the answers:\n", "Ada was born.", "a", ", ", "\n", "\n\n",
])  # fmt: skip


@given(reply=st.lists(st.one_of(PIECES, TEXT, SENTENCES.map("\n".join)), max_size=10).map("".join))
@example(reply='"Q:')
@example(reply='"Sure!\nAda was born.')
@example(reply="[]")
def test_parsing_found_answers_again_changes_nothing(reply):
    once = answers(reply)
    # Given back as a list: as lines, the answers "a. b" and "b. c" would look numbered.
    assert answers(json.dumps(once)) == once


# Text and tokens: data/prompting.py


@given(question=TEXT, answer=TEXT)
def test_a_row_spells_its_prompt_and_its_answer(tokenizer, question, answer):
    encoder = PromptEncoder(
        tokenizer=tokenizer, template="Question: {question}\nAnswer:", answer_prefix=" ", system=None, date=None,
        context=1000, end_ids=frozenset(),
    )  # fmt: skip
    row = encoder.encode(question, answer)
    assert encoder.decode(row.ids[: row.prompt], keep_special=True) == f"Question: {question}\nAnswer:"
    assert encoder.decode(row.ids[row.prompt : -1], keep_special=True) == f" {answer}"
    assert row.ids[-1] == encoder.end_id
    assert encoder.decode_answer(row.ids[row.prompt :]) == answer.strip()
    assert encoder.partial_ids(question, answer) == list(row.ids[:-1])
    ends = encoder.token_ends(answer)
    assert ends == sorted(set(ends))
    assert ends[-1:] == [len(answer)] * bool(answer)
