from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from meow_lightning.console.table_blocks import GAP, blocks

ROWS = [["run", "forget quality (p) ↑", "model utility ↑", "leakage ↓"], ["method=a", "0.50", "0.250", "1.000"]]


def test_a_table_that_fits_is_one_block_with_one_line_per_header():
    width = 8 + 20 + 15 + 9 + 3 * GAP
    (whole,) = blocks(ROWS, width)
    assert (whole.rows, whole.widths) == (ROWS, [8, 20, 15, 9])


def test_headers_wrap_to_their_longest_word_before_columns_move_to_another_block():
    # 8 for the names, and 2 + 7 for each of "quality", "utility" and "leakage"
    (wrapped,) = blocks(ROWS, 35)
    assert (wrapped.rows, wrapped.widths) == (ROWS, [8, 7, 7, 7])
    first, second = blocks(ROWS, 34)
    assert (first.rows, first.widths) == ([row[:3] for row in ROWS], [8, 7, 7])
    assert (second.rows, second.widths) == ([[row[0], row[3]] for row in ROWS], [8, 7])


def test_names_of_rows_take_half_of_the_width_at_most():
    name = "method.select.strategy=smallest seed=3 optim.epochs=24"
    for block in blocks([ROWS[0], [name, *ROWS[1][1:]]], 40):
        assert block.widths[0] == 20
        assert block.rows[1][0] == name


@given(
    st.lists(st.text("ab →1.", max_size=20), min_size=2, max_size=9).flatmap(
        lambda head: st.lists(
            st.lists(st.text("0123.→ ", max_size=15), min_size=len(head), max_size=len(head)), max_size=4
        ).map(lambda body: [head, *body])
    ),
    st.integers(40, 200),
)
def test_no_column_is_lost_and_every_block_fits(rows, width):
    found = blocks(rows, width)
    assert [column for block in found for column in zip(*(row[1:] for row in block.rows), strict=True)] == [
        *zip(*(row[1:] for row in rows), strict=True)
    ]
    for block in found:
        assert [row[0] for row in block.rows] == [row[0] for row in rows]
        assert sum(block.widths) + GAP * (len(block.widths) - 1) <= width
