"""What the base model alone still knows, for a method that leaves its weights as they are."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from meow_lightning.report.data import ReportData, arrow, format_value, label, number
from meow_lightning.report.templating import render_template

MEMO = "memo/answers"
ROLES = ("target", "unlearned")  # the base model is the target model


def section(data: ReportData, names: Sequence[str]) -> Markup:
    """Render the numbers of the forget set without and with what the method attached; empty for all other methods.

    Args:
        data: Data of the run.
        names: Names of the numbers to show, of which those of the forget set are used.
    """
    if not data.keeps_start:
        return Markup("")
    rows = []
    for name in names:
        values = [number(data.results, role, name) for role in ROLES]
        known = [value for value in values if value is not None]
        if (name.startswith("forget/") or name == MEMO) and len(known) == len(ROLES):
            heading = f"{label(data.results, name)} {arrow(data.results, name)}".rstrip()
            rows.append([heading, *(format_value(name, value) for value in known)])
    return render_template("base_model.html", rows=rows, weights=data.weights)
