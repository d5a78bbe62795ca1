from __future__ import annotations

from meow_lightning.generation.prefix_tree import Tree, batches, build_prefix_trees


def test_a_tree_holds_what_prompts_share_once() -> None:
    (tree,) = build_prefix_trees([(1, 2, 4), (1, 2, 3, 5), (1, 2, 3)], most=9)
    # sorted: 1 2 3, then 5 below it, then 4 below 1 2
    assert tree.tokens == [1, 2, 3, 5, 4]
    assert tree.parents == [-1, 0, 1, 2, 1]
    assert tree.depths == [0, 1, 2, 3, 2]
    assert tree.ends == {(1, 2, 3): 2, (1, 2, 3, 5): 3, (1, 2, 4): 4}
    assert tree.children[1] == {3: 2, 4: 4}
    assert tree.first_end == 2
    assert tree.path(3) == [0, 1, 2, 3]
    assert tree.path(4) == [0, 1, 4]
    assert list(tree.chains()) == [(-1, 0, 4), (1, 4, 5)]


def test_prompts_with_little_in_common_get_trees_of_their_own() -> None:
    trees = build_prefix_trees([(1, 2, 3, 4, 5), (1, 9, 9), (1, 2, 3, 8)], most=9)
    # 3 of the 4 tokens of 1 2 3 8 are shared with the prompt before it in order, 1 of the 3 of 1 9 9 is not half
    assert [sorted(tree.ends) for tree in trees] == [[(1, 2, 3, 4, 5), (1, 2, 3, 8)], [(1, 9, 9)]]


def test_a_full_tree_takes_no_more() -> None:
    prompts = [(1, 2, last) for last in range(3, 8)]
    assert [len(tree) for tree in build_prefix_trees(prompts, most=7)] == [7]
    # a tree of 4 would hold two of these prompts; where prompts are long it may have twice their length
    assert [len(tree) for tree in build_prefix_trees(prompts, most=4)] == [6, 3]


def test_a_batch_counts_its_padding() -> None:
    trees = [Tree(tuple(range(size))) for size in (6, 4, 4, 3)]
    # 12 places: two rows of width 6, then two of width 4 (a third of width 4 would fit too)
    assert [[len(tree) for tree in batch] for batch in batches(trees, nodes=12)] == [[6, 4], [4, 3]]
    assert [len(batch) for batch in batches(trees, nodes=1)] == [1, 1, 1, 1]
