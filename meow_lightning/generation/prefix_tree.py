"""Prompts that begin alike, as trees of tokens: what they share is computed once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

Prompt = tuple[int, ...]


class Tree:
    """Some prompts, each a path from the root; a node is one token after one beginning.

    Attributes:
        tokens: The token of every node; a node comes after those above it.
        parents: The node above every node, -1 where there is none.
        depths: How many tokens stand before every node.
        children: By node and token, the node below.
        ends: By prompt, the node of its last token.
        first_end: The smallest of those nodes: nothing is asked about what follows the nodes before it.

    """

    def __init__(self, first: Prompt) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.depths: list[int] = []
        self.children: list[dict[int, int]] = []
        self.ends: dict[Prompt, int] = {}
        self._last: list[int] = []
        self._last_prompt: Prompt = ()
        self.add(first)
        self.first_end = len(first) - 1

    def __len__(self) -> int:
        return len(self.tokens)

    def shared(self, prompt: Prompt) -> int:
        """How many first tokens of the prompt the one added last has too."""
        for place, (mine, yours) in enumerate(zip(prompt, self._last_prompt, strict=False)):
            if mine != yours:
                return place
        return min(len(prompt), len(self._last_prompt))

    def add(self, prompt: Prompt) -> None:
        """Put in a prompt; prompts come in sorted order."""
        path = self._last[: self.shared(prompt)]
        for token in prompt[len(path) :]:
            above = path[-1] if path else -1
            node = len(self.tokens)
            if path:
                self.children[above][token] = node
            self.tokens.append(token)
            self.parents.append(above)
            self.depths.append(len(path))
            self.children.append({})
            path.append(node)
        self.ends[prompt] = path[-1]
        self._last, self._last_prompt = path, prompt

    def path(self, node: int) -> list[int]:
        """The nodes from the root to this one, both included."""
        found = []
        while node >= 0:
            found.append(node)
            node = self.parents[node]
        return found[::-1]

    def chains(self) -> Iterator[tuple[int, int, int]]:
        """Runs of nodes each right below the one before: (node above the run, its first node, one past its last)."""
        start = 0
        for node in range(1, len(self) + 1):
            if node == len(self) or self.parents[node] != node - 1:
                yield self.parents[start], start, node
                start = node


def build_prefix_trees(prompts: Iterable[Prompt], *, most: int) -> list[Tree]:
    """Trees that hold every prompt once, the largest first.

    A prompt joins a tree when it shares at least half of its tokens with it, so that no row of a batch becomes long for
    the sake of a few common words.

    Args:
        prompts: Distinct, with one token or more.
        most: Nodes at which a tree takes no more prompts, unless they are so long that few would fit.
    """
    trees: list[Tree] = []
    for prompt in sorted(prompts):
        if trees:
            shared = trees[-1].shared(prompt)
            nodes = len(trees[-1]) + len(prompt) - shared
            if 2 * shared >= len(prompt) and nodes <= max(most, 2 * len(prompt)):
                trees[-1].add(prompt)
                continue
        trees.append(Tree(prompt))
    return sorted(trees, key=len, reverse=True)


def batches(trees: Sequence[Tree], *, nodes: int) -> Iterator[list[Tree]]:
    """The trees in turn, as many at once as fill ``nodes`` places with the padding counted; at least one.

    Args:
        trees: The largest first.
        nodes: Places of a batch, from 1.
    """
    at = 0
    while at < len(trees):
        rows = max(1, nodes // len(trees[at]))
        yield list(trees[at : at + rows])
        at += rows
