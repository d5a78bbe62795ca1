"""Reader of user-provided text files; other file types are recognized and the error gives a command to convert them."""

from __future__ import annotations

import shlex
import stat
import zipfile
from pathlib import Path

from meow_lightning.errors import UserError

_LINES = "orient='records', lines=True, force_ascii=False"
# How to convert a table to JSON lines: a program for `python -c`, called with the input and the output file.
_TABLE = "import sys, pandas; pandas.{reader}(sys.argv[1]).to_json(sys.argv[2], " + _LINES + ")"
_STREAM = "import sys, datasets; datasets.Dataset.from_file(sys.argv[1]).to_json(sys.argv[2], force_ascii=False)"


def _python(program: str) -> str:
    return f"python -c {shlex.quote(program)} {{0}} {{1}}"


def _pandas(reader: str) -> str:
    return _python(_TABLE.format(reader=reader))


CSV = _pandas("read_csv")
# (first bytes, description, command that converts the file to text); the first match counts.
KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"PAR1", "a Parquet file", _pandas("read_parquet")),
    (b"ARROW1", "an Arrow file", _pandas("read_feather")),
    (b"FEA1", "a Feather file", _pandas("read_feather")),
    (b"\xff\xff\xff\xff", "an Arrow stream", _python(_STREAM)),
    (b"\x1f\x8b", "gzip-compressed", "gunzip -c {0} > {1}"),
    (b"BZh", "bzip2-compressed", "bunzip2 -c {0} > {1}"),
    (b"\xfd7zXZ\x00", "xz-compressed", "xz -dc {0} > {1}"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed", "zstd -dc {0} > {1}"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file", f"pip install xlrd && {_pandas('read_excel')}"),
    (b"\xff\xfe\x00\x00", "UTF-32 text", "iconv -f UTF-32 -t UTF-8 {0} > {1}"),
    (b"\x00\x00\xfe\xff", "UTF-32 text", "iconv -f UTF-32 -t UTF-8 {0} > {1}"),
    (b"\xff\xfe", "UTF-16 text", "iconv -f UTF-16 -t UTF-8 {0} > {1}"),
    (b"\xfe\xff", "UTF-16 text", "iconv -f UTF-16 -t UTF-8 {0} > {1}"),
    *((each + b"\x00", "UTF-16 text", "iconv -f UTF-16LE -t UTF-8 {0} > {1}") for each in (b"{", b"[")),
    *((b"\x00" + each, "UTF-16 text", "iconv -f UTF-16BE -t UTF-8 {0} > {1}") for each in (b"{", b"[")),
    *(
        (bytes([0x80, number]), "a pickle, which can run any code when it is read; if you trust it",
         _pandas("read_pickle"))
        for number in (2, 3, 4, 5)
    ),
)  # fmt: skip
_LATIN = "iconv -f WINDOWS-1252 -t UTF-8 {0} > {1}"
_OTHER = (
    (stat.S_ISDIR, "a folder; give a file in it"),
    (stat.S_ISFIFO, "a pipe, which can be read only once; write it to a file first and give that"),
    (stat.S_ISSOCK, "a socket; give a file"),
    (stat.S_ISCHR, "a device; give a file"),
    (stat.S_ISBLK, "a device; give a file"),
)


def read_text(path: Path, *, where: str, give: str) -> str:
    """Read a UTF-8 text file, without its byte order mark.

    Args:
        path: The file.
        where: Option and value, such as ``dataset.forget=facts.jsonl``; for error messages.
        give: What to provide instead, in words, such as ``a file of lines with a question``.

    Raises:
        UserError: The file cannot be read, is not a text file, or is not UTF-8.
    """
    try:
        mode = path.stat().st_mode
        for matches, what in _OTHER:
            if matches(mode):
                raise UserError(f"{where} is {what}")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{where} does not exist; give {give}") from error
    except OSError as error:
        raise UserError(f"{where} cannot be read ({error.strerror}); give {give}") from error
    except ValueError as error:  # the file name contains a null character
        raise UserError(f"{where} is not a path ({error}); give {give}") from error
    if (kind := _kind(path, content)) is not None:
        raise UserError(f"{where} is {kind[0]}, not UTF-8 text; {convert(path, kind[1])}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8, or, if it is Western "
            f"European text from Windows, {convert(path, _LATIN)}"
        ) from error


def convert(path: Path, command: str) -> str:
    """Phrase the command that converts a file to a text file, as part of a message."""
    output = path.with_name(f"{path.name.partition('.')[0]}.converted.jsonl")
    return f"convert it: {command.format(shlex.quote(str(path)), shlex.quote(str(output)))}"


def _kind(path: Path, content: bytes) -> tuple[str, str] | None:
    """Recognize a file type by its first bytes: (description, conversion command); ``None`` for text."""
    if content.startswith(b"PK\x03\x04"):
        try:
            sheet = any(name.startswith("xl/") for name in zipfile.ZipFile(path).namelist())
        except zipfile.BadZipFile:
            sheet = False
        if sheet:
            return "an Excel file", f"pip install openpyxl && {_pandas('read_excel')}"
        return "a zip archive", "unzip -p {0} > {1}"
    return next(((what, command) for start, what, command in KINDS if content.startswith(start)), None)
