from __future__ import annotations

import json
import sys

import pytest
from helpers.wandb_server import Server

from meow_lightning.errors import UserError
from meow_lightning.tracking import wandb as wandb_module
from meow_lightning.tracking import workspaces
from meow_lightning.tracking.dashboard import Dashboard, dashboard
from meow_lightning.tracking.workspaces import as_report, as_workspace, save

PLACE = {"entity": "e", "project": "p"}


def board(group: str = "tiny_methods") -> Dashboard:
    return dashboard(group=group, attacks=["relearn", "prune"], profiles=["clean", "ma"])


def test_a_view_holds_every_section_of_the_specification_and_the_runs_of_the_group() -> None:
    view = as_workspace(board(), **PLACE)
    assert (view.entity, view.project, view.name) == ("e", "p", "Unlearning: tiny_methods")
    expected = [(section.title, [panel.title for panel in section.panels]) for section in board().sections]
    assert [(section.name, [panel.title for panel in section.panels]) for section in view.sections] == expected
    plane, bars = view.sections[0].panels[0], view.sections[0].panels[2]
    assert (plane.x.name, plane.y.name) == ("model_utility", "forget_quality/log10_p")
    assert (bars.metrics, bars.groupby.name) == (["forget_quality/log10_p"], "method.name")
    loss = view.sections[1].panels[0]
    assert (loss.x, loss.y, loss.groupby.name) == ("unlearn_unlearned/step", ["unlearn_unlearned/loss"], "method.name")
    sent = json.loads(view._to_model().model_dump_json(by_alias=True))["spec"]["section"]
    (runs,) = sent["runSets"]
    assert runs["grouping"] == [{"section": "config", "name": "method.value.name"}]
    (wanted,) = runs["filters"]["filters"]
    assert (wanted["key"], wanted["op"], wanted["value"]) == ({"section": "run", "name": "group"}, "=", "tiny_methods")


def test_without_a_group_all_runs_are_shown() -> None:
    assert as_workspace(board(""), **PLACE).runset_settings.filters in ([], "")
    assert as_workspace(board(""), **PLACE).name == "Unlearning"


def test_a_report_has_a_heading_a_sentence_and_panels_per_section() -> None:
    report = as_report(board(), **PLACE)
    kinds = [type(block).__name__ for block in report.blocks]
    assert kinds == ["H2", "P", "PanelGrid"] * len(board().sections)
    assert [block.text for block in report.blocks[:2]] == [board().sections[0].title, board().sections[0].text]
    assert [len(grid.panels) for grid in report.blocks[2::3]] == [len(section.panels) for section in board().sections]
    assert '"tiny_methods"' in report._to_model().model_dump_json(by_alias=True)


@pytest.fixture
def server(no_login: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_API_KEY", "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c")
    with Server() as made:
        monkeypatch.setenv("WANDB_BASE_URL", made.url)
        yield made


@pytest.mark.parametrize(("report", "kind"), [(False, "project-view"), (True, "runs")])
def test_a_dashboard_is_saved_on_the_server(server: Server, report: bool, kind: str) -> None:
    address = save(board(), **PLACE, report=report)
    assert address.startswith(f"{server.url}/e/p")
    (sent,) = server.views
    assert (sent["entityName"], sent["projectName"], sent["displayName"]) == ("e", "p", "Unlearning: tiny_methods")
    assert sent["type"] == kind
    assert "forget_quality/log10_p" in sent["spec"]


def test_a_server_that_refuses_or_is_away_is_one_line(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspaces, "as_workspace", lambda *unused, **place: Refused())
    with pytest.raises(UserError, match=r"rejects the dashboard \(no such project\); check that the project e/p "):
        save(board(), **PLACE, report=False)
    server.close()
    with pytest.raises(UserError, match=rf"^W&B at {server.url} does not answer \(.*\); use --dry-run"):
        save(board(), **PLACE, report=False)


class Refused:
    def save(self) -> None:
        raise ValueError("no such project\nand more")


def test_without_a_key_nothing_is_sent(no_login: None) -> None:
    assert not wandb_module.has_wandb_key()
    with pytest.raises(UserError, match=r"needs a W&B key: run `wandb login`, or use --dry-run$"):
        save(board(), **PLACE, report=False)


def test_without_the_extra_one_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("wandb_workspaces")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(UserError, match=r"pip install 'meow-lightning\[dashboard\]', or use --dry-run$"):
        save(board(), **PLACE, report=False)
