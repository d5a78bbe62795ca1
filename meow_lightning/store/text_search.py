"""Search files of any kind for texts, in whatever form they are written: plain, JSON, HTML, compressed, W&B's records.

Texts and files are compared by their letters and digits alone. Quotes, escapes, line breaks, punctuation and the case
of ASCII letters therefore do not matter. A window of ``WIDTH`` bytes at the end of every text is found by a polynomial
hash modulo 2^64 over all positions of a file at once; only where a hash agrees are the texts themselves compared.
"""

from __future__ import annotations

import gzip
import html
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

WIDTH = 16  # letters and digits (bytes) of the shortest text that is searched; a power of two
LONGEST = 80  # characters of a text that are compared: messages quote so many of a longer one
PIECE = 2**22  # bytes read at once
OVERLAP = 2**16  # bytes that are read again with the next piece: more than any text with its markup
BLOCK, HEADER = 2**15, 7  # bytes of a block of W&B's record files, and of the headers of the file and of each record
_LOWER = bytes(range(256)).lower()
_DROPPED = bytes(code for code in range(128) if not chr(code).isalnum())
_TAG = re.compile(rb"<[^<>]{0,400}>")
_FACTOR, _WORD = 0x9E3779B97F4A7C15, 2**64
_TABLE_BITS = 22


def letters(content: bytes) -> bytes:
    """Reduce UTF-8 text to its letters and digits, ASCII letters in lower case; other bytes from 128 stay."""
    return content.translate(_LOWER, _DROPPED)


class TextSearch:
    """A search for many texts at once.

    Args:
        texts: The texts. Those with fewer than ``WIDTH`` letters and digits are left out, since other texts contain
            them by chance.

    Attributes:
        searched: Number of different texts searched for.
        too_short: Number of different texts left out.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        given = {text.strip() for text in texts if text.strip()}
        patterns = {text: _spellings(text) for text in given}
        self.searched = sum(bool(each) for each in patterns.values())
        self.too_short = len(given) - self.searched
        self._by_hash: dict[int, list[bytes]] = {}
        for pattern in sorted({one for each in patterns.values() for one in each}):
            end = np.frombuffer(pattern[-WIDTH:], dtype=np.uint8)
            self._by_hash.setdefault(int(_window_hashes(end)[0]), []).append(pattern)
        self._table = np.zeros(2**_TABLE_BITS, dtype=bool)
        self._table[_slots(np.array(list(self._by_hash), dtype=np.uint64))] = True

    def is_in(self, path: Path) -> bool:
        """Whether a file contains one of the texts, also compressed (gzip, zip and what is built on it, as npz).

        Raises:
            OSError: The file cannot be read.
        """
        return any(self.is_in_bytes(piece) for piece in _pieces(path))

    def is_in_bytes(self, content: bytes) -> bool:
        """Whether bytes contain one of the texts, as they are or as the text of a page."""
        if self._matches(letters(content)):
            return True
        marked = b"<" in content or b"&" in content
        return marked and self._matches(letters(_page_text(content)))

    def _matches(self, reduced: bytes) -> bool:
        if len(reduced) < WIDTH or not self._by_hash:
            return False
        hashes = _window_hashes(np.frombuffer(reduced, dtype=np.uint8))
        for place in np.flatnonzero(self._table[_slots(hashes)]):
            end = int(place) + WIDTH
            for pattern in self._by_hash.get(int(hashes[place]), ()):
                if end >= len(pattern) and reduced.startswith(pattern, end - len(pattern)):
                    return True
        return False


def _spellings(text: str) -> set[bytes]:
    """Reduce a text as it is and as JSON writes it, with or without ASCII alone; none of one that is too short."""
    cut = text[:LONGEST]
    forms = [letters(each.encode(errors="replace")) for each in (cut, json.dumps(cut, ensure_ascii=False))]
    return {*forms, letters(json.dumps(cut).encode())} if min(map(len, forms)) >= WIDTH else set()


def _page_text(content: bytes) -> bytes:
    """Remove the tags of a page and resolve its entities."""
    return html.unescape(_TAG.sub(b"", content).decode(errors="ignore")).encode()


def _window_hashes(reduced: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hash every window of ``WIDTH`` bytes: sum of byte_i * factor^(WIDTH - 1 - i), modulo 2^64, by doubling."""
    hashes, size, factor = reduced.astype(np.uint64), 1, _FACTOR
    while size < WIDTH:
        hashes = hashes[:-size] * np.uint64(factor) + hashes[size:]
        size, factor = 2 * size, factor * factor % _WORD
    return hashes


def _slots(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return hashes >> np.uint64(64 - _TABLE_BITS)


def _pieces(path: Path) -> Iterator[bytes]:
    """Yield the content of a file in overlapping pieces, and that of what is packed in it."""
    if path.suffix == ".safetensors":  # weights hold no characters: the header alone
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            yield file.read(min(size, PIECE))
        return
    with path.open("rb") as file:
        yield from _overlapping(file)
    if path.suffix == ".wandb":
        yield _joined_records(path.read_bytes())
    try:
        yield from _unpacked(path)
    except (EOFError, zipfile.BadZipFile, gzip.BadGzipFile, RuntimeError, NotImplementedError):
        return  # it only looks packed, or is cut off: its plain bytes have been searched


def _unpacked(path: Path) -> Iterator[bytes]:
    with ExitStack() as opened:
        if zipfile.is_zipfile(path):
            archive = opened.enter_context(zipfile.ZipFile(path))
            for name in archive.namelist():
                yield name.encode()
                yield from _overlapping(opened.enter_context(archive.open(name)))
        elif path.suffix == ".gz":
            yield from _overlapping(cast(IO[bytes], opened.enter_context(gzip.open(path))))


def _overlapping(file: IO[bytes]) -> Iterator[bytes]:
    kept = b""
    while piece := file.read(PIECE):
        content = kept + piece
        yield content
        kept = content[-OVERLAP:]


def _joined_records(content: bytes) -> bytes:
    """Join the records of a W&B file, whose headers may stand in the middle of a text (LevelDB's log format)."""
    parts, place = [], HEADER
    while place + HEADER <= len(content):
        room = BLOCK - place % BLOCK
        if room < HEADER:
            place += room
            continue
        size = int.from_bytes(content[place + 4 : place + 6], "little")
        parts.append(content[place + HEADER : place + HEADER + size])
        place += HEADER + size
    return b"".join(parts)
