from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers.html import compact
from helpers.reports import SECRET, made_up, predictions

from meow_lightning.evaluation.robustness import with_conditions
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.inversion.candidates import UNFINISHED
from meow_lightning.inversion.filters import REASONS as CLEANING
from meow_lightning.inversion.screening import REASONS as SCREENING
from meow_lightning.report.data import Dropped, LayerCurves, ReportData, format_value
from meow_lightning.report.extraction import Said
from meow_lightning.report.page import write_report
from meow_lightning.report.questions import REASONS, _rows_of_set, questions
from meow_lightning.report.seed_spread import Spread
from meow_lightning.tracking.disclosure import SHAREABLE
from meow_lightning.types import AnswerRow, Definition, InvertedFact

EVIL = """<script>alert('x')</script> & "quoted" <b onclick="y">"""
VOID = {"meta", "br", "link", "img", "input", "hr"}


def written(data: ReportData, folder: Path) -> str:
    """Write a report and return its page."""
    return compact(write_report(data, folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data() -> ReportData:
    return made_up(("target", "unlearned", "retain"))


@pytest.fixture(scope="module")
def html(data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(data, tmp_path_factory.mktemp("report"))


class Tags(HTMLParser):
    """Collects tags, attributes, texts and resources, and fails on a tag that is closed out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.outside: list[str] = []
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.outside += [v for n, v in attrs if n in ("href", "src", "xlink:href") and v and not v.startswith("#")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_well_formed_and_self_contained(html: str) -> None:
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert tags.outside == []
    assert not tags.seen & {"link", "img", "iframe"}
    assert html.count("<script>") == 1
    assert "src" not in tags.attributes
    assert len(tags.ids) == len(set(tags.ids))
    without_namespaces = html.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert re.search(r"https?://|url\((?!#)|@import", without_namespaces) is None


def test_notes_follow_the_verdict(html: str) -> None:
    assert "About these models and facts</h2><ul><li>Recipes &lt;differ&gt;.</li></ul>" in html


def test_page_follows_the_colour_scheme(html: str) -> None:
    assert "prefers-color-scheme: dark" in html
    assert html.count("<svg ") == 4


def test_sections_stand_in_order(html: str) -> None:
    titles = [
        "The model forgot",
        "What this does not show",
        "Numbers",
        "Figures",
        "Questions before",
        "How it was made",
    ]
    places = [html.index(title) for title in titles]
    assert places == sorted(places)


def test_texts_are_escaped_and_values_marked(html: str) -> None:
    assert f"Where is &lt;b&gt;{SECRET}&lt;/b&gt; 0?" in html
    assert f"<b>{SECRET}" not in html
    assert f"</b>In {SECRET} &amp; <mark>Oslo0</mark>." in html
    assert "<h1>run &lt;one&gt;</h1>" in html


def test_changed_words_are_marked_and_questions_classified(html: str) -> None:
    assert f"In {SECRET} &amp; <mark><del>Oslo0</del></mark>." in html
    assert f"In {SECRET} &amp; <ins>Rome0</ins>." in html
    for state, text, count in (("forgotten", "forgotten", 45), ("still-said", "still said", 0),
                               ("collateral", "collateral damage", 0)):  # fmt: skip
        assert f'data-state="{state}" aria-pressed="false">{text} ({count})</button>' in html
        assert html.count(f'data-states="{state}"') == count
    assert '<div class="find" role="search" hidden>' in html, "without JavaScript there is nothing to press"


def test_nothing_from_users_reaches_the_page_as_html(data: ReportData, tmp_path: Path) -> None:
    def hostile(row: AnswerRow) -> AnswerRow:
        return replace(row, question=EVIL, answer=EVIL, text=EVIL, value="<b onclick=", fact=EVIL)

    rows = {role: [hostile(row) for row in answers] for role, answers in data.rows.items()}
    spread = Spread(made=EVIL, command=EVIL, seeds=[0, 1], numbers={"model_utility": [0.1, 0.2]}, intervals={})
    page = written(
        replace(
            data, name=EVIL, key=EVIL, disclaimer=EVIL, notes=[EVIL], weights=EVIL, settings={"a": {EVIL: EVIL}},
            settings_origin={EVIL: EVIL}, stages=[{"label": EVIL, "key": EVIL, "seconds": 1.0}], rows=rows,
            baseline=[], selected={EVIL: [0]}, inverted=[InvertedFact(EVIL, 0, EVIL, EVIL)], spread=spread,
            dropped=Dropped(counts={EVIL: 1}, examples={EVIL: [(EVIL, EVIL)]}),
        ),
        tmp_path,
    )  # fmt: skip
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert page.count("<script") == 1
    assert "onclick" not in tags.attributes
    text = "".join(tags.text)
    # 75 questions with a true answer and three predictions, 45 of them with an inverted answer; 16 other fields
    assert text.count(EVIL) == 75 * 5 + 45 + 16
    assert "&lt;script" not in text
    assert "&amp;" not in text


def test_every_question_is_there_those_beyond_a_first_look_folded(html: str) -> None:
    forget, retain = html.split("<h3>Forget set, 45 questions</h3>")[1].split(
        "<h3>Retain set, 30 questions, 20 of them, evenly spaced, above the others</h3>"
    )
    open_, folded = forget.split("<details><summary>5 more questions</summary>")
    assert (open_.count("<article"), folded.count("<article")) == (40, 5)
    open_, folded = retain.split("<details><summary>10 more questions</summary>")
    assert (open_.count("<article"), folded.count("<article")) == (20, 10)
    numbers = re.findall(r'<article class="question" data-states="[a-z-]*"><h4><span>(\d+)</span>', retain)
    assert sorted(map(int, numbers)) == list(range(1, 31))


def test_dropped_inverted_answers_are_listed_by_reason_and_escaped(html: str) -> None:
    listed = html.split("<summary>3 inverted answers dropped by filtering</summary>")[1].split("</details>")[0]
    assert (
        "<tr><th>duplicates one that was kept</th><td>2</td>"
        f"<td><code>forget0</code> In &lt;i&gt;{SECRET}&lt;/i&gt; A.</td></tr>"
    ) in listed
    assert f"<tr><th>still states the fact</th><td>1</td><td><code>forget1</code> {SECRET} again</td></tr>" in listed
    assert "no text" not in listed


def test_every_filter_reason_has_a_description() -> None:
    assert set(REASONS) == {*CLEANING, *SCREENING, UNFINISHED}


def test_a_private_page_explains_who_may_read_it(data: ReportData, html: str, tmp_path: Path) -> None:
    private = written(replace(data, public=False), tmp_path)
    assert "this page and its folder can be read by their owner alone" in private
    assert f"In {SECRET} &amp; <mark>Oslo0</mark>." in private
    assert "owner alone" not in html


def test_the_shareable_page_is_a_second_file_without_texts(data: ReportData, tmp_path: Path) -> None:
    write_report(data, tmp_path, shareable=replace(data, texts=False, public=False))
    assert SECRET in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert SECRET not in (tmp_path / SHAREABLE).read_text(encoding="utf-8")


def test_what_asking_brought_out_is_shown_but_not_shared(data: ReportData, tmp_path: Path) -> None:
    asked = replace(data, said={"sampled": [Said("Where?", "There.", "Say it!", f"In {SECRET}.", 1.0)]})
    write_report(asked, tmp_path, shareable=replace(asked, texts=False, public=False))
    assert "<td>Say it!</td>" in compact((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Say it!" not in (tmp_path / SHAREABLE).read_text(encoding="utf-8")


def test_only_the_inverted_answers_that_were_trained_on_are_named(html: str) -> None:
    assert f"trained on instead: In {SECRET} B.</p>" in html
    assert html.count("trained on instead") == 1


def test_settings_name_their_origin_and_stages_their_time(html: str) -> None:
    assert '<code>optim.lr</code></th><td><code>0.0001</code></td><td class="origin">method/meow.yaml: tiny' in html
    assert "<code>seed</code>" in html
    assert "2.2 min" in html


def test_without_texts_nothing_of_the_dataset_leaks(data: ReportData, tmp_path: Path) -> None:
    write_report(replace(data, texts=False), tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"report.html", "table.md", "table.csv", "plane.svg", "memo.svg"}
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert SECRET not in text, path.name
        assert "Oslo" not in text, path.name
    assert "are not shown on this page" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_missing_retain_model_is_reported_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "plane.svg").write_text("from an earlier report")
    html = written(made_up(("target", "unlearned")), tmp_path)
    assert "Forget quality was not measured: this run has no predictions of the retain model." in html
    assert "not measured: this run has no predictions of the retain model</div>" in html
    assert '<td>—<sup class="note">1</sup></td>' in html
    assert "<sup>1</sup> this run has no predictions of the retain model" in html
    assert "not evaluated" in html
    assert not (tmp_path / "figures" / "plane.svg").exists()


def test_a_run_with_nothing_in_it_still_has_a_page(data: ReportData, tmp_path: Path) -> None:
    nothing = replace(data, results=evaluate({}, {}, truth_ratio_mean="geometric"), rows={}, memo={}, curves={})
    html = written(replace(nothing, stages=[], settings={}), tmp_path)
    assert "Open: whether the model forgot was not measured" in html
    assert "No answers were recorded." in html
    assert "no stage logged a curve" in html


def test_the_key_numbers_begin_with_the_most_trusted_metrics(data: ReportData, tmp_path: Path) -> None:
    metrics = {"forget/probability": {"overall": 0.9}, "forget/truth_ratio": {"overall": 0.3}}
    trust = {"measured": "AUC of some models", "command": "python run.py sweep=meta", "metrics": metrics}
    html = written(replace(data, trust=trust), tmp_path)
    stats = html[html.index('<div class="stats">') : html.index("What this does not show")]
    assert stats.index("forget probability") < stats.index("forget quality")
    assert "forget truth ratio" not in stats
    assert "AUC of some models" in stats
    plain = written(data, tmp_path)
    assert "can be trusted most" not in plain
    assert plain.index("forget quality", plain.index('<div class="stats">')) < plain.index("What this does not show")


def test_the_report_needs_no_torch() -> None:
    code = "import sys, meow_lightning.report.page; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("stop", "marked"), [("end", 0), ("length", 2)])
def test_an_answer_that_its_budget_ended_is_shown_as_cut(stop: str, marked: int, data: ReportData) -> None:
    rows = {"unlearned": [replace(row, stop=stop) for row in predictions("unlearned", "forget", 2)]}
    assert questions(replace(data, rows=rows)).count("… cut by the length limit") == marked


def test_the_questions_are_those_of_the_unlearned_model():
    data = made_up(("target", "unlearned", "retain"))
    rows = {
        **data.rows,
        "unlearned": predictions("unlearned", "forget", 2),
        "retain": predictions("retain", "forget", 7),
    }
    assert len(_rows_of_set(replace(data, rows=rows), "forget")) == 2
    assert len(_rows_of_set(replace(data, rows={**rows, "unlearned": [], "target": []}), "forget")) == 7


def test_attacks_have_a_section_of_their_own_with_a_picture(data: ReportData, html: str, tmp_path: Path) -> None:
    plain = data.results
    results = with_conditions({"": plain, "relearn": plain}, {"relearn": "after <re>learning"})
    text = written(replace(data, results=results), tmp_path)
    section = text[text.index("<h2>Does it come back?</h2>") : text.index("<h2>Figures</h2>")]
    assert "<h3>After &lt;re&gt;learning</h3>" in section
    assert "All main numbers after &lt;re&gt;learning" in section
    assert "recovered" in section
    assert "<svg" in section
    assert (tmp_path / "figures" / "attacks.svg").exists()
    assert "<re>" not in text
    assert "the share of answers that state the true value goes from" in text
    assert "Does it come back?" not in html
    written(data, tmp_path)
    assert not (tmp_path / "figures" / "attacks.svg").exists()


def test_what_the_layers_hold_is_drawn_and_weighed_in_the_verdict(data: ReportData, tmp_path: Path) -> None:
    erasure = {"target": 0.0, "unlearned": 0.3, "retain": 1.0}
    known = Definition(
        name="layers/patching/uds", id="unlearning_depth_score.1", unit="share", direction="higher", text="UDS.",
        label="unlearning depth score (UDS)", order=56, main=True,
    )  # fmt: skip
    values = {role: {**each, known.name: erasure[role]} for role, each in data.results.values.items()}
    results = replace(data.results, definitions=(*data.results.definitions, known), values=values)
    curves = LayerCurves("by <activation> patching", "nats", {"unlearned": [0.5, 0.2], "retain": [1.0, 2.0]})
    text = written(replace(data, results=results, layers=[curves]), tmp_path)
    section = text[text.index("<h2>Does it come back?</h2>") : text.index("<h2>Figures</h2>")]
    assert "<th>unlearning depth score (UDS) ↑</th><td>0.000</td><td>0.300</td><td>1.000</td><td>0.70</td>" in section
    assert "<svg" in section
    assert (tmp_path / "figures" / "layers.svg").exists()
    assert "<activation>" not in text
    assert "30% is erased (target model: 0%, retain model: 100%). That is nearer to the target model" in text
    assert "## " not in (tmp_path / "table.md").read_text(), "no model was attacked"
    written(data, tmp_path)
    assert not (tmp_path / "figures" / "layers.svg").exists()


def test_what_the_base_model_still_knows_stands_beside_what_is_answered(data: ReportData, tmp_path: Path) -> None:
    assert "The base model still knows" not in written(data, tmp_path)
    html = written(replace(data, keeps_start=True), tmp_path)
    section = html.split("The base model still knows")[1].split("</section>")[0]
    shown = dict(re.findall(r"<tr><th>(.*?)</th><td>(.*?)</td>", section))
    accuracy = next(value for name, value in shown.items() if name.startswith("forget value accuracy"))
    assert accuracy == format_value("", data.results.values["target"]["forget/value_accuracy"])
    assert any(name.startswith("MEMO") for name in shown)
    assert not any("retain" in name for name in shown)
    assert data.weights in section
