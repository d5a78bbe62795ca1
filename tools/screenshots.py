"""Take the four pictures of the documentation: a run's page, a sweep's page, a phone, the terminal.

They show what ``outputs/`` has: the newest report of ``method=meow`` and the newest page of a sweep. The terminal is
the end of a run, which finds its stages in the store.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from browser import Page, browser
from PIL import Image
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = 100  # of the terminal
COLOURS = 96  # of a picture, which keeps it small
QUESTIONS = "document.querySelector('.find').scrollIntoView()"


def newest(outputs: Path, pattern: str, remedy: str) -> Path:
    """Find the newest file among the reports.

    Raises:
        SystemExit: There is none; names the command that makes one.
    """
    found = sorted((outputs / "reports").glob(pattern), key=lambda path: path.stat().st_mtime)
    if not found:
        raise SystemExit(f"{outputs / 'reports'} has no {pattern}: run {remedy} first")
    return found[-1]


def take(tab: Page, source: Path, target: Path, *, width: int, height: int, script: str = "0") -> None:
    """Write a picture of a page, after a script ran in it."""
    tab.open(source, width=width, height=height)
    tab.run(script)
    tab.screenshot(target)
    Image.open(target).convert("RGB").quantize(COLOURS).save(target, optimize=True)


def terminal(text: str, title: str) -> str:
    """Show the text of a terminal as a page with an SVG picture of it."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(text))
    svg = console.export_svg(title=title)
    return f"<!DOCTYPE html><title>{title}</title><style>body {{ margin: 0 }}</style>{svg}"


def last_screen(outputs: Path, lines: int) -> str:
    """Run the default job on the store and return the last lines of its output, without this machine's folder."""
    done = subprocess.run(
        [sys.executable, "run.py", f"outputs={outputs}", "logger=none"], cwd=ROOT, check=True, text=True,
        capture_output=True, env={**os.environ, "COLUMNS": str(COLUMNS)},
    )  # fmt: skip
    said = done.stdout.replace(str(outputs), "outputs").rstrip().splitlines()
    return "\n".join(said[-lines:])


def main(arguments: Sequence[str] | None = None) -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outputs", type=Path, default=ROOT / "outputs", help="folder with reports and store")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs", help="where the pictures go")
    given = parser.parse_args(arguments)
    run = newest(given.outputs, "*-meow-*/report.html", "python run.py")
    sweep = newest(given.outputs, "sweep-*/index.html", "python run.py -m method=none,retrain,meow")
    said = last_screen(given.outputs, lines=40)
    with tempfile.TemporaryDirectory() as folder, browser() as tab:
        screen = Path(folder) / "terminal.html"
        screen.write_text(terminal(said, "python run.py"), encoding="utf-8")
        take(tab, run, given.folder / "report.png", width=1280, height=1280)
        take(tab, sweep, given.folder / "sweep.png", width=1280, height=1280)
        take(tab, run, given.folder / "phone.png", width=390, height=844, script=QUESTIONS)
        tab.open(screen, width=1240, height=400)
        height = tab.run("Math.ceil(document.querySelector('svg').getBoundingClientRect().height)")
        take(tab, screen, given.folder / "terminal.png", width=1240, height=height)
    for name in ("report", "sweep", "phone", "terminal"):
        path = given.folder / f"{name}.png"
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
