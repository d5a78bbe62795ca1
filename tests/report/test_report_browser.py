"""Pages as a browser shows them: quiet console, nothing overflows, search and sort work, axe-core is silent.

The planted pages show that each check sees what it must.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import CHROMIUM, Page, browser
from helpers.reports import SWEEP, made_up

from meow_lightning.evaluation.robustness import with_conditions
from meow_lightning.report.page import write_report
from meow_lightning.report.sweep_cost import Cost
from meow_lightning.report.sweep_page import sweep_page, sweep_pictures
from meow_lightning.tracking.disclosure import SHAREABLE

pytestmark = [
    pytest.mark.browser, pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]  # fmt: skip
AXE = "axe-core@4.14.1"
WIDTHS = (390, 1280)
PAGES = ("report.html", SHAREABLE, "index.html")
UNFOLD = "document.querySelectorAll('details').forEach((each) => { each.open = true; })"
# Elements that stick out of the window, but for what can be scrolled within it.
OVERFLOWING = """[
  ...[document.scrollingElement].filter((each) => each.scrollWidth > innerWidth).map(() => 'page'),
  ...[...document.querySelectorAll('body *:not(.wide *)')]
    .filter((each) => each.getBoundingClientRect().right > innerWidth + 1).map((each) => each.outerHTML.slice(0, 80)),
]"""
VISIBLE = "[...document.querySelectorAll('.question')].filter((each) => each.checkVisibility()).length"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with an attack, the one to share, and the page of a sweep."""
    folder = tmp_path_factory.mktemp("pages")
    data = made_up(("target", "unlearned", "retain"))
    results = with_conditions({"": data.results, "relearn": data.results}, {"relearn": "after relearning"})
    data = replace(data, results=results, public=False, name="a-name-without-any-blank-" * 5)
    write_report(data, folder, shareable=replace(data, texts=False))
    (folder / "index.html").write_text(sweep_page(SWEEP, sweep_pictures(SWEEP)), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser() as page:
        yield page


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of axe-core, from npm."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "--prefix", str(folder), "--prefer-offline", "--no-audit", "--no-fund", AXE]
    fetched = subprocess.run(command, capture_output=True, text=True, check=False)
    if fetched.returncode:
        pytest.skip(f"npm cannot fetch {AXE}: {fetched.stderr.strip().splitlines()[-1:]}")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def serious(tab: Page, axe: str, *, rules: list[str] | None = None) -> list[str]:
    """What axe-core finds in the open page that is serious or critical, by all of its rules or some.

    Figures are single images to it: their many elements would take minutes.
    """
    tab.run(f"{axe};0")
    options = {"resultTypes": ["violations"], **({"runOnly": rules} if rules else {})}
    found = tab.run(f"axe.run({{ exclude: ['svg *'] }}, {json.dumps(options)}).then((found) => found.violations)")
    return [
        f"{each['id']}: {node['html'][:120]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_a_message_and_fits(folder: Path, tab: Page, name: str, width: int, dark: bool) -> None:
    tab.problems.clear()
    tab.open(folder / name, width=width, dark=dark)
    assert tab.run(OVERFLOWING) == []
    tab.run(UNFOLD)
    assert tab.run(OVERFLOWING) == []
    assert tab.problems == []


@pytest.mark.network
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(folder: Path, tab: Page, axe: str, name: str) -> None:
    tab.open(folder / name, width=390)
    tab.run(UNFOLD)
    assert serious(tab, axe) == []
    tab.open(folder / name, width=1280, dark=True)
    tab.run(UNFOLD)
    assert serious(tab, axe, rules=["color-contrast", "scrollable-region-focusable"]) == []


@pytest.mark.network
def test_planted_faults_are_found(tmp_path: Path, tab: Page, axe: str) -> None:
    page = tmp_path / "planted.html"
    page.write_text(
        "<!DOCTYPE html><html lang=en><title>t</title><main><h1>t</h1><p style='color: #aaa'>pale</p>"
        "<p style='width: 800px'>broad</p></main><script>console.warn('heard')</script></html>"
    )
    tab.problems.clear()
    tab.open(page, width=390)
    assert any("heard" in each for each in tab.problems)
    assert len(tab.run(OVERFLOWING)) == 2  # the page and the paragraph
    assert [each.split(":")[0] for each in serious(tab, axe)] == ["color-contrast"]


def test_the_content_policy_stops_other_scripts(folder: Path, tmp_path: Path, tab: Page) -> None:
    page = tmp_path / "injected.html"
    html = (folder / "report.html").read_text(encoding="utf-8")
    page.write_text(html.replace("<main>", "<main><script>document.title = 'taken'</script>"), encoding="utf-8")
    tab.problems.clear()
    tab.open(page, width=1280)
    assert tab.run("document.title") != "taken"
    assert any("Content Security Policy" in each for each in tab.problems)


def test_questions_can_be_searched_and_filtered(folder: Path, tab: Page) -> None:
    tab.open(folder / "report.html", width=1280)
    count = "document.querySelector('.find output').textContent"
    search = (
        "(text) => { const box = document.querySelector('.find input'); box.value = text;"
        " box.dispatchEvent(new Event('input')); }"
    )
    assert (tab.run(VISIBLE), tab.run(count)) == (60, "75 questions")  # the others are folded
    tab.run("document.querySelector('[data-state=forgotten]').click()")
    assert (tab.run(VISIBLE), tab.run(count)) == (45, "45 of 75 questions")
    tab.run(f"({search})('ROME44 zanzibarium')")
    assert (tab.run(VISIBLE), tab.run(count)) == (1, "1 of 75 questions")
    tab.run("document.querySelector('[data-state=collateral]').click()")
    assert tab.run(VISIBLE) == 0
    tab.run(f"({search})('')")
    tab.run("document.querySelector('.find [data-state=\"\"]').click()")
    assert (tab.run(VISIBLE), tab.run(count)) == (60, "75 questions")


TABLE = [["name", "x", "when"], ["b", "−1.5", "1 × 10^x"], ["a", "—", "z"], ["c", "10", ""], ["d", "2", "10 b"],
         ["e", "-inf", "9 b"], ["f", "4e-07", "y"]]  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with one table, whose only interval must not be read."""
    page = tmp_path_factory.mktemp("table") / "table.html"
    content = replace(SWEEP, tables=[("all", [*TABLE, ["", "[5, 6]", ""]])], costs={})
    page.write_text(sweep_page(content, sweep_pictures(content)), encoding="utf-8")
    return page


def column(tab: Page, position: int, presses: int) -> str:
    """The names of the rows of the last table after pressing on a heading."""
    return str(
        tab.run(
            f"(() => {{ const table = [...document.querySelectorAll('table')].at(-1);"
            f" const button = table.tHead.rows[0].cells[{position}].querySelector('button');"
            f" for (let n = 0; n < {presses}; n++) button.click();"
            " return [...table.tBodies[0].rows].map((row) => row.cells[0].textContent.trim()).join(''); })()"
        )
    )


@pytest.mark.parametrize(
    ("position", "presses", "order"),
    [
        (0, 1, "abcdef"), (0, 2, "fedcba"), (0, 3, "bacdef"),
        (1, 1, "ebfdca"), (1, 2, "cdfbea"),  # −inf, −1.5, 4e-07, 2, 10; the missing one last in both directions
        (2, 1, "bedfac"), (2, 2, "afdebc"),
    ],
)  # fmt: skip
def test_tables_sort_by_any_column(table: Path, tab: Page, position: int, presses: int, order: str) -> None:
    tab.open(table, width=1280)
    assert column(tab, position, presses) == order
    state = {1: "ascending", 2: "descending", 3: None}[presses]
    read = "[...document.querySelectorAll('table')].at(-1).tHead.rows[0].cells"
    assert tab.run(f"[...{read}].map((each) => each.ariaSort)").count(None) == (2 if state else 3)
    assert tab.run(f"{read}[{position}].ariaSort") == state


def test_times_sort_by_seconds_and_not_by_their_text(tmp_path: Path, tab: Page) -> None:
    seconds = {"method=none": 150.0, "method=a<b>": 90.0, "method=b": 8000.0}  # 2.5 min, 90.0 s, 2.2 h
    costs = {name: Cost(flops=1.0, seconds=each, memory_mib=None) for name, each in seconds.items()}
    page = tmp_path / "costs.html"
    changed = replace(SWEEP, costs=costs, tables=[])
    page.write_text(sweep_page(changed, sweep_pictures(changed)), encoding="utf-8")
    tab.open(page, width=1280)
    names = ["method=a<b>", "method=none", "method=b", "method=c", "method=e"]
    assert column(tab, 2, 1) == "".join(names)


def test_without_javascript_everything_is_there(folder: Path, tab: Page) -> None:
    tab.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(folder / "report.html", width=1280)
        assert tab.run(VISIBLE) == 60
        assert not tab.run("document.querySelector('.find').checkVisibility()")
        assert tab.run("document.querySelectorAll('thead button').length") == 0
        tab.run(UNFOLD)
        assert tab.run(VISIBLE) == 75
    finally:
        tab.send("Emulation.setScriptExecutionDisabled", value=False)


def test_print_has_light_colours_whatever_the_reader_prefers(folder: Path, tab: Page) -> None:
    tab.open(folder / "report.html", width=1280, dark=True)
    colour = "getComputedStyle(document.documentElement).backgroundColor"
    on_screen = tab.run(colour)
    tab.send("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    on_paper = tab.run(colour)
    tab.send("Emulation.setEmulatedMedia", media="")
    assert (on_screen, on_paper) == ("rgb(23, 25, 28)", "rgb(253, 252, 249)")
