"""``meow-lightning dashboard``, also ``python -m meow_lightning.cli.dashboard``: panels over runs in W&B."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

import yaml

from meow_lightning.attacks.base import ModelAttack, PromptAttack
from meow_lightning.cli.command import reports_user_errors
from meow_lightning.config.files import CONF
from meow_lightning.config.hydra_errors import choices
from meow_lightning.config.instantiate import component_class
from meow_lightning.config.program import program
from meow_lightning.tracking.dashboard import Dashboard, dashboard
from meow_lightning.tracking.workspaces import save

DESCRIPTION = """\
Create a dashboard over the runs of a W&B project: utility against forget quality by method, retained against forgotten
values, curves, MEMO before and after, attacks, cost, and all options of a sweep. Runs in W&B are not changed. Each call
creates a new view."""


def answering_attacks() -> list[str]:
    """List the attacks after which models answer the questions, unlike those that look inside or search prompts."""
    nodes = [yaml.safe_load((CONF / "attacks" / f"{name}.yaml").read_text("utf-8")) for name in choices("attacks")]
    return [
        node["name"]
        for node in nodes
        if "_target_" in node and issubclass(component_class(node, allow=()), ModelAttack | PromptAttack)
    ]


def specification(board: Dashboard, *, entity: str, project: str, report: bool) -> str:
    """Format a dashboard as JSON."""
    kind = "report" if report else "workspace"
    return json.dumps({"kind": kind, "entity": entity, "project": project, **asdict(board)}, indent=1)


@reports_user_errors
def main(arguments: Sequence[str]) -> int:
    """Run the command; return exit status 0, or 1 after a user error."""
    parser = argparse.ArgumentParser(prog=program("dashboard"), description=DESCRIPTION)
    parser.add_argument("--entity", metavar="E", required=True, help="W&B user or team")
    parser.add_argument("--project", metavar="P", required=True, help="W&B project, as in logger.project")
    parser.add_argument("--group", metavar="G", default="", help="only the runs of a group, such as a sweep's name")
    parser.add_argument("--report", action="store_true", help="a report instead of a saved view")
    parser.add_argument("--dry-run", action="store_true", help="print the specification; needs no key and no network")
    given = parser.parse_args(arguments)
    board = dashboard(group=given.group, attacks=answering_attacks(), profiles=choices("memo"))
    place = {"entity": given.entity, "project": given.project, "report": given.report}
    line = specification(board, **place) if given.dry_run else f"dashboard: {save(board, **place)}"
    sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
