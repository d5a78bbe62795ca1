"""Token trees of prompts with common prefixes, which are computed only once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

Prompt = tuple[int, ...]


class Tree:
    """Prompts as paths from the root; a node is one token after one prefix.

    Attributes:
        tokens: The token of every node; a node comes after its ancestors.
        parents: The parent of every node, -1 for the root.
        depths: The number of tokens before every node.
        children: The child node by node and token.
        ends: The last node of every prompt.
        first_end: The smallest of those nodes: no logits are needed for the nodes before it.

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
        """Count the prefix tokens that a prompt shares with the one added last."""
        for place, (own, last) in enumerate(zip(prompt, self._last_prompt, strict=False)):
            if own != last:
                return place
        return min(len(prompt), len(self._last_prompt))

    def add(self, prompt: Prompt) -> None:
        """Add a prompt; prompts must come in sorted order."""
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
        """Return the nodes from the root to a node, inclusive."""
        nodes = []
        while node >= 0:
            nodes.append(node)
            node = self.parents[node]
        return nodes[::-1]

    def chains(self) -> Iterator[tuple[int, int, int]]:
        """Yield chains of single children: (node above the chain, its first node, one past its last)."""
        start = 0
        for node in range(1, len(self) + 1):
            if node == len(self) or self.parents[node] != node - 1:
                yield self.parents[start], start, node
                start = node


def build_prefix_trees(prompts: Iterable[Prompt], *, most: int) -> list[Tree]:
    """Build trees that contain every prompt once, the largest first.

    A prompt joins a tree only if it shares at least half of its tokens, so that a few common words do not lead to long
    rows in a batch.

    Args:
        prompts: Distinct prompts with one token or more.
        most: Maximum number of nodes per tree; very long prompts may exceed it.
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
    """Group trees into batches of at most ``nodes`` positions including padding, with at least one tree each.

    Args:
        trees: The trees, largest first.
        nodes: Positions per batch, from 1.
    """
    at = 0
    while at < len(trees):
        rows = max(1, nodes // len(trees[at]))
        yield list(trees[at : at + rows])
        at += rows
