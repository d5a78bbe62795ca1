"""Dashboards in W&B: a saved view of a project or a report, through the package wandb-workspaces."""

from __future__ import annotations

import os
from typing import Any

from meow_lightning.errors import UserError
from meow_lightning.tracking.dashboard import Dashboard, Panel
from meow_lightning.tracking.wandb import PROBE_TIMEOUT, has_wandb_key, unreachable_reason

EXTRA = "meow-lightning dashboard needs wandb-workspaces: pip install 'meow-lightning[dashboard]', or use --dry-run"


def save(board: Dashboard, *, entity: str, project: str, report: bool) -> str:
    """Create the dashboard in W&B; returns its address.

    Args:
        board: The dashboard.
        entity: W&B user or team.
        project: W&B project.
        report: Whether to create a report instead of a saved view.

    Raises:
        UserError: wandb-workspaces is not installed, no key is found, or the server does not answer or refuses.
    """
    made = (as_report if report else as_workspace)(board, entity=entity, project=project)
    if not has_wandb_key():
        raise UserError("meow-lightning dashboard needs a W&B key: run `wandb login`, or use --dry-run")
    import wandb

    url = wandb.setup().settings.base_url
    if (failure := unreachable_reason(url, seconds=PROBE_TIMEOUT)) is not None:
        raise UserError(f"W&B at {url} does not answer ({failure}); use --dry-run to see the specification")
    try:
        return str(made.save().url)
    except Exception as error:  # of W&B, its transport or its server
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"W&B at {url} rejects the dashboard ({reason}); check that the project {entity}/{project} exists and that "
            "your key may write to it"
        ) from error


def as_workspace(board: Dashboard, *, entity: str, project: str) -> Any:
    """Build a saved view (``wandb_workspaces.workspaces.Workspace``).

    Args:
        board: The dashboard.
        entity: W&B user or team.
        project: W&B project.
    """
    views, _, expressions = _library()
    sections = [
        views.Section(name=section.title, panels=[_panel(each) for each in section.panels], is_open=True)
        for section in board.sections
    ]
    runs = views.RunsetSettings(
        groupby=[expressions.Config(board.groupby)],
        filters=[expressions.Metric("Group") == board.group] if board.group else [],
    )
    return views.Workspace(entity=entity, project=project, name=board.name, sections=sections, runset_settings=runs)


def as_report(board: Dashboard, *, entity: str, project: str) -> Any:
    """Build a report (``wandb_workspaces.reports.v2.Report``); arguments as in :func:`as_workspace`."""
    _, reports, expressions = _library()
    blocks: list[Any] = []
    for section in board.sections:
        runs = reports.Runset(
            name=board.group or "runs", groupby=[f"config.{board.groupby}"],
            filters=[expressions.Metric("Group") == board.group] if board.group else [],
        )  # fmt: skip
        grid = reports.PanelGrid(runsets=[runs], panels=[_panel(each) for each in section.panels])
        blocks += [reports.H2(section.title), reports.P(section.text), grid]
    return reports.Report(entity=entity, project=project, title=board.name, blocks=blocks, width="fluid")


def _library() -> tuple[Any, Any, Any]:
    """Import views, reports and filter expressions of wandb-workspaces.

    Raises:
        UserError: The package is not installed.
    """
    os.environ.setdefault("WANDB_SILENT", "true")  # otherwise it prints the address itself
    try:
        from wandb_workspaces import expr, workspaces
        from wandb_workspaces.reports import v2
    except ImportError as error:
        raise UserError(EXTRA) from error
    return workspaces, v2, expr


def _panel(panel: Panel) -> Any:
    """Build one panel."""
    _, wr, _ = _library()
    options = [wr.Config(name) for name in panel.options]
    if panel.kind == "line":
        return wr.LinePlot(title=panel.title, x=panel.x, y=list(panel.numbers), groupby=options[0])
    if panel.kind == "bar":
        return wr.BarPlot(title=panel.title, metrics=list(panel.numbers), groupby=options[0])
    if panel.kind == "media":
        return wr.MediaBrowser(title=panel.title, media_keys=list(panel.numbers))
    numbers = [wr.SummaryMetric(name) for name in panel.numbers]
    if panel.kind == "scatter":
        return wr.ScatterPlot(title=panel.title, x=wr.SummaryMetric(panel.x), y=numbers[0])
    columns = [wr.ParallelCoordinatesPlotColumn(metric=each) for each in (*options, *numbers)]
    return wr.ParallelCoordinatesPlot(title=panel.title, columns=columns)
