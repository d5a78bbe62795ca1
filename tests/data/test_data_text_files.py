from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from meow_lightning.data.jsonl_reader import read_entries
from meow_lightning.data.text_files import read_text
from meow_lightning.errors import UserError

ROWS = [{"question": "Où est né Ada?", "answer": "À Lima."}, {"question": "Who?", "answer": "Ada\nBrook"}]
TEXT = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = "question,answer\nOù est né Ada?,À Lima.\nWho?,Ada\n"


def told(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read_entries(path, option="dataset.forget", holds="a question")
    assert "\n" not in str(error.value)
    return str(error.value)


def frame():
    import pandas

    return pandas.DataFrame(ROWS)


def stream(path: Path) -> None:
    import pyarrow

    table = pyarrow.Table.from_pylist(ROWS)
    with pyarrow.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)


def zipped(path: Path, inside: str) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(inside, TEXT)


FORMS = {
    "parquet": (lambda path: frame().to_parquet(path), "is a Parquet file, not UTF-8 text"),
    "arrow": (lambda path: frame().to_feather(path), "is an Arrow file, not UTF-8 text"),
    "stream": (stream, "is an Arrow stream, not UTF-8 text"),
    "gz": (lambda path: path.write_bytes(gzip.compress(TEXT.encode())), "is gzip-compressed, not UTF-8 text"),
    "bz2": (lambda path: path.write_bytes(bz2.compress(TEXT.encode())), "is bzip2-compressed, not UTF-8 text"),
    "xz": (lambda path: path.write_bytes(lzma.compress(TEXT.encode())), "is xz-compressed, not UTF-8 text"),
    "zip": (lambda path: zipped(path, "facts.jsonl"), "is a zip archive, not UTF-8 text"),
    "pickle": (lambda path: frame().to_pickle(path, protocol=4), "is a pickle, which can run any code when it is read"),
    "utf16": (lambda path: path.write_bytes(TEXT.encode("utf-16")), "is UTF-16 text, not UTF-8 text"),
    "utf16le": (lambda path: path.write_bytes(TEXT.encode("utf-16-le")), "is UTF-16 text, not UTF-8 text"),
    "utf16be": (lambda path: path.write_bytes(TEXT.encode("utf-16-be")), "is UTF-16 text, not UTF-8 text"),
    "utf32": (lambda path: path.write_bytes(TEXT.encode("utf-32")), "is UTF-32 text, not UTF-8 text"),
    "latin": (lambda path: path.write_bytes(TEXT.encode("cp1252")), "is not UTF-8 (invalid"),
    "csv": (lambda path: frame().to_csv(path, index=False), "line 1: the header of a table, not JSON"),
}
NEEDS = {"gz": "gunzip", "bz2": "bunzip2", "xz": "xz", "zip": "unzip", "utf16": "iconv"}


@pytest.mark.parametrize("form", FORMS)
def test_another_form_is_named_and_the_command_shown_converts_it(form, tmp_path):
    make, said = FORMS[form]
    path = tmp_path / f"my facts.{form}"
    make(path)
    message = told(path)
    assert message.startswith(f"dataset.forget={path}")
    assert said in message
    command = message.partition("convert it: ")[2]
    tool = command.split()[0]
    if shutil.which(tool) is None and tool != "python":
        assert tool in NEEDS.values()  # the machine lacks it: that it is named is all that can be seen here
        return
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(command, shell=True, check=True, env=environment, capture_output=True, timeout=120)
    found = read_entries(tmp_path / "my facts.converted.jsonl", option="x", holds="y")
    assert [entry for _, entry in found] == ROWS


def test_an_excel_file_is_distinguished_from_an_archive(tmp_path):
    zipped(tmp_path / "facts.xlsx", "xl/workbook.xml")
    assert "is an Excel file, not UTF-8 text; convert it: pip install openpyxl && python -c " in told(
        tmp_path / "facts.xlsx"
    )
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and no more")
    assert "is a zip archive" in told(tmp_path / "cut.zip")


def test_other_file_types_are_reported_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert told(tmp_path / "pipe").endswith("pipe is a pipe, which can be read only once; write it to a file first and "
                                            "give that")  # fmt: skip
    assert told(tmp_path) == f"dataset.forget={tmp_path} is a folder; give a file in it"
    assert told(Path("/dev/zero")) == "dataset.forget=/dev/zero is a device; give a file"
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
        assert told(tmp_path / "s").endswith("/s is a socket; give a file")
    assert "none.jsonl does not exist; give a file of lines" in told(tmp_path / "none.jsonl")
    assert "cannot be read (File name too long)" in told(tmp_path / ("x" * 300))
    assert "is not a path (embedded null" in told(tmp_path / "a\0b")
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be read (Too many levels of symbolic links)" in told(tmp_path / "loop")


def test_a_mark_of_byte_order_is_left_out(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfhello \xc3\xa9\r\n")
    assert read_text(tmp_path / "a", where="x", give="y") == "hello é\r\n"
