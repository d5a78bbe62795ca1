"""Division of a table that is wider than the terminal into blocks of columns, so that no number is cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

GAP = 2  # blanks between two columns


@dataclass(frozen=True, slots=True)
class Block:
    """Some columns of a table, the first of which holds the names of the rows.

    Attributes:
        rows: Header and rows.
        widths: Width of every column in characters. Row names and headers that are wider wrap at their words.
    """

    rows: Sequence[Sequence[str]]
    widths: Sequence[int]


def blocks(rows: Sequence[Sequence[str]], width: int) -> list[Block]:
    """Divide a table into blocks that each fit a width, with the row names in every block.

    A table that fits is one block with one line per header. In a wider one, headers wrap to the width of the numbers
    below them, and row names to half of the width at most.

    Args:
        rows: Header and rows; the first column holds the names of the rows.
        width: Width of the terminal in characters.
    """
    columns = list(zip(*rows, strict=True))
    natural = [max(map(cell_len, column)) for column in columns]
    if sum(natural) + GAP * (len(natural) - 1) <= width:
        return [Block(rows, natural)]
    first = min(natural[0], width // 2)
    parts, used = [[0]], first
    widths = [first, *(_wrapped(column) for column in columns[1:])]
    for number in range(1, len(columns)):
        if used + GAP + widths[number] > width and len(parts[-1]) > 1:
            parts.append([0])
            used = first
        parts[-1].append(number)
        used += GAP + widths[number]
    return [Block([[row[at] for at in part] for row in rows], [widths[at] for at in part]) for part in parts]


def _wrapped(column: Sequence[str]) -> int:
    """Compute the least width of a column whose header wraps at its words and whose cells do not."""
    head, *cells = column
    return max(map(cell_len, [*head.split(), *cells]), default=0)
