from __future__ import annotations

from pathlib import Path

import pytest
from browser import CHROMIUM, browser
from screenshots import newest, take, terminal


def test_without_a_report_the_command_that_makes_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"has no sweep-\*/index.html: run python run.py -m seed=0,1 first"):
        newest(tmp_path, "sweep-*/index.html", "python run.py -m seed=0,1")


def test_the_terminal_keeps_lines_and_escapes_them() -> None:
    page = terminal("a <b>\nlast", "python run.py")
    assert "&lt;b&gt;" in page
    assert page.count("<svg ") == 1
    assert "<b>" not in page


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_picture_has_the_size_of_its_window_after_the_script(tmp_path: Path) -> None:
    from PIL import Image

    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text("<!DOCTYPE html><title>t</title><body style='background: #f00'></body>")
    with browser() as tab:
        take(tab, page, picture, width=300, height=200, script="document.body.style.background = '#00f'")
    with Image.open(picture) as shown:
        assert shown.size == (300, 200)
        assert shown.convert("RGB").getpixel((150, 100)) == (0, 0, 255)
