from __future__ import annotations

import gzip
import html
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meow_lightning.store.text_search import BLOCK, HEADER, LONGEST, PIECE, WIDTH, TextSearch, letters

QUESTION = 'In which <city> does Márta "Mia" Oleskowa\nlive & work?'
ANSWER = "Ines Quiroga lives in Vigo."


def in_file(folder: Path, name: str, content: bytes) -> bool:
    path = folder / name
    path.write_bytes(content)
    return TextSearch([QUESTION, ANSWER]).is_in(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", json.dumps({"question": QUESTION}).encode()),
        ("rows.jsonl", json.dumps({"question": QUESTION}, ensure_ascii=False).encode()),
        ("page.html", html.escape(QUESTION).encode()),
        ("page.html", b"<td>Ines Quiroga lives in <mark class='value'>Vigo</mark>.</td>"),
        ("failed.txt", f"error: {ANSWER!r}".encode()),
        ("table.tex", rb"Ines\_Quiroga lives in {\bf Vigo}.".replace(rb"{\bf ", b"{")),
        ("log.txt.gz", gzip.compress(b"x" * 1000 + ANSWER.encode(), mtime=0)),
        ("any.bin", b"\xff\x00" * (PIECE // 2 - 5) + ANSWER.encode() + b"\xff" * PIECE),
    ],
)
def test_a_text_is_found_in_every_form(tmp_path: Path, name: str, content: bytes) -> None:
    assert in_file(tmp_path, name, content)


@pytest.mark.parametrize("content", [b"", b"Ines Quiroga lives in Lima.", b"Vigo", ANSWER[:-3].encode(), b"<" * 5000])
def test_another_text_is_not(tmp_path: Path, content: bytes) -> None:
    assert not in_file(tmp_path, "file", content)


def test_packed_arrays_and_archives_are_opened(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "draws.npz", texts=np.array([ANSWER]))
    with zipfile.ZipFile(tmp_path / "archive.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.json", json.dumps(ANSWER))
    search = TextSearch([ANSWER])
    assert search.is_in(tmp_path / "draws.npz")
    assert search.is_in(tmp_path / "archive.pt")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(np.random.default_rng(0).bytes(5000))[:-100])
    assert not search.is_in(tmp_path / "cut.gz"), "a file that was cut off is searched as far as it goes"


def test_a_text_across_two_blocks_of_a_wandb_file_is_found(tmp_path: Path) -> None:
    def record(content: bytes, kind: int) -> bytes:
        return b"crc4" + len(content).to_bytes(2, "little") + bytes([kind]) + content

    room = BLOCK - 2 * HEADER  # of the first block, after the header of the file and that of the record
    text = b"\x01" * (room - 9) + ANSWER.encode()
    content = b":W&B\x00\x00\x00" + record(text[:room], 2) + record(text[room:], 4)
    assert ANSWER.encode() not in content
    assert in_file(tmp_path, "run.wandb", content)
    assert not in_file(tmp_path, "run.bin", content), "the records are joined in files of W&B alone"


def test_short_texts_are_counted_instead(tmp_path: Path) -> None:
    search = TextSearch(["Lima", ANSWER, ANSWER, f" {ANSWER}", "", "?" * 40])
    assert (search.searched, search.too_short) == (1, 2)
    (tmp_path / "file").write_text("Lima")
    assert not search.is_in(tmp_path / "file")
    assert not TextSearch([]).is_in(tmp_path / "file")


def test_messages_that_quote_the_beginning_alone_are_found(tmp_path: Path) -> None:
    long = " ".join(f"word{number}" for number in range(60))
    (tmp_path / "failed.txt").write_text(f"repeats the question ({long[:LONGEST]!r})")
    assert TextSearch([long]).is_in(tmp_path / "failed.txt")


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(text=words, before=words, after=words)
def test_whatever_stands_around_a_text_it_is_found_as_json_and_html(text: str, before: str, after: str) -> None:
    search = TextSearch([text])
    around = f"{before} {text} {after}"
    if search.searched:
        assert search.is_in_bytes(json.dumps([around]).encode())
        assert search.is_in_bytes(html.escape(around).encode())
    else:
        assert len(letters(text.strip().encode())) < WIDTH
