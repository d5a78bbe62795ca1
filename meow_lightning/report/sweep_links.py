"""Links between the pages of runs and the pages of the sweeps that contain them, in a folder of reports."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from markupsafe import Markup

from meow_lightning.store.durable import write_text
from meow_lightning.store.folders import owner_only
from meow_lightning.store.jsonl import read_json
from meow_lightning.tracking.disclosure import PAGE

SWEEP = "sweep-"  # first part of the name of a sweep's folder
SWEEP_PAGE = "index.html"
PROVENANCE = "provenance.json"
PLACE = re.compile(r"<!-- sweeps -->.*?<!-- /sweeps -->", re.DOTALL)  # texts of users are escaped, so they have none


def containing_sweeps(reports: Path, results_key: str) -> list[str]:
    """List the sweeps with a page that contain a run.

    Args:
        reports: Folder with the reports of runs and sweeps.
        results_key: Key of the run's results in the store.
    """
    names = []
    for path in sorted(reports.glob(f"{SWEEP}*/{PROVENANCE}")):
        # A damaged file costs a link, not the run that ends.
        with suppress(OSError, ValueError):
            if (path.parent / SWEEP_PAGE).is_file() and results_key in read_json(path)["runs"].values():
                names.append(path.parent.name.removeprefix(SWEEP))
    return names


def link_sweeps(folder: Path, results_key: str) -> None:
    """Write links to the sweeps of a run into its published page; the page in the store has none.

    Args:
        folder: Folder of the run's report, beside those of the sweeps.
        results_key: Key of the run's results in the store.
    """
    page = folder / PAGE
    if not page.is_file():
        return
    names = containing_sweeps(folder.parent, results_key)
    links = Markup(", ").join(
        Markup('<a href="../{}/{}">{}</a>').format(f"{SWEEP}{name}", SWEEP_PAGE, name) for name in names
    )
    line = Markup('<p class="small">Part of the sweep{}: {}</p>').format("s" * (len(names) > 1), links) if names else ""
    before = page.read_text(encoding="utf-8")
    after = PLACE.sub(lambda _: f"<!-- sweeps -->{line}<!-- /sweeps -->", before, count=1)
    if after != before:
        with owner_only(not page.stat().st_mode & 0o077):  # as before
            write_text(page, after)
