from __future__ import annotations

import torch

from meow_lightning.data.collate import collate, collate_streams
from meow_lightning.types import Encoded


def test_rows_are_padded_on_the_right() -> None:
    rows = collate([Encoded((5, 6, 7), 2), Encoded((8, 9, 3, 2), 1)], pad_id=1)
    assert rows.input_ids_BT.tolist() == [[5, 6, 7, 1], [8, 9, 3, 2]]
    assert rows.attention_mask_BT.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert rows.loss_mask_BT.tolist() == [[0, 0, 1, 0], [0, 1, 1, 1]]


def test_padding_that_is_the_end_token_leaves_the_scored_end_token_alone() -> None:
    rows = collate([Encoded((5, 6, 0), 1), Encoded((5, 6, 6, 0), 1)], pad_id=0)
    assert rows.attention_mask_BT[0].tolist() == [1, 1, 1, 0]
    assert rows.loss_mask_BT[0].tolist() == [0, 1, 1, 0]


def test_no_rows_are_one_blank_row_with_nothing_scored() -> None:
    rows = collate([], pad_id=4)
    assert rows.input_ids_BT.tolist() == [[4, 4]]
    assert rows.attention_mask_BT.tolist() == [[1, 1]]
    assert rows.loss_mask_BT.tolist() == [[0, 0]]
    assert rows.input_ids_BT.dtype == torch.int64


def test_streams_are_padded_separately() -> None:
    batch = collate_streams({"a": [Encoded((5, 6), 1)], "b": [Encoded((5, 6, 7), 1)], "c": []}, pad_id=1)
    assert {name: tuple(rows.input_ids_BT.shape) for name, rows in batch.items()} == {
        "a": (1, 2),
        "b": (1, 3),
        "c": (1, 2),
    }
