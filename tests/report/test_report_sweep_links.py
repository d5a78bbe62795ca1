from __future__ import annotations

import json
from pathlib import Path

import pytest

from meow_lightning.report.sweep_links import containing_sweeps, link_sweeps

PLACE = "<p>a</p><!-- sweeps --><!-- /sweeps --><p>&lt;!-- sweeps --&gt;</p>"


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """A run's report and three sweeps: one with the run, one without, and one whose page is missing."""
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-1" / "report.html").write_text(PLACE)
    for name, key, page in (("mine", "k1", True), ("other", "k2", True), ("bare", "k1", False)):
        (folder := tmp_path / f"sweep-{name}").mkdir()
        (folder / "provenance.json").write_text(json.dumps({"runs": {"method=a": key}}))
        if page:
            (folder / "index.html").write_text("")
    return tmp_path


def test_a_run_is_in_the_sweeps_that_name_its_results_and_have_a_page(reports: Path) -> None:
    assert containing_sweeps(reports, "k1") == ["mine"]
    assert containing_sweeps(reports, "k3") == []
    (reports / "sweep-other" / "provenance.json").write_text("{ torn")
    assert containing_sweeps(reports, "k1") == ["mine"]
    assert containing_sweeps(reports, "k2") == []


def test_links_replace_those_of_before_and_change_nothing_else(reports: Path) -> None:
    page = reports / "run-1" / "report.html"
    link_sweeps(page.parent, "k1")
    once = page.read_text()
    assert '<a href="../sweep-mine/index.html">mine</a>' in once
    assert once.startswith("<p>a</p>")
    assert once.endswith("<!-- /sweeps --><p>&lt;!-- sweeps --&gt;</p>")
    link_sweeps(page.parent, "k1")
    assert page.read_text() == once
    link_sweeps(page.parent, "k3")
    assert page.read_text() == PLACE


def test_a_private_page_stays_readable_by_its_owner_alone(reports: Path) -> None:
    page = reports / "run-1" / "report.html"
    page.chmod(0o600)
    link_sweeps(page.parent, "k1")
    assert page.stat().st_mode & 0o777 == 0o600
    assert "sweep-mine" in page.read_text()


def test_a_run_without_a_page_gets_none(reports: Path) -> None:
    link_sweeps(reports / "run-2", "k1")
    assert not (reports / "run-2").exists()
