"""``meow-lightning leaderboard``, also ``python -m meow_lightning.cli.leaderboard``: compares all runs of a store."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from meow_lightning.cli.command import reports_user_errors
from meow_lightning.config.program import program

DESCRIPTION = """\
Compare all finished runs of a store: one self-contained page, with Markdown and CSV beside it, in the folder
reports/leaderboard. Runs are grouped by what may be compared: dataset, split, model, measure and version of the
evaluation. Of runs on private data it has numbers only."""


@reports_user_errors
def main(arguments: Sequence[str]) -> int:
    """Run the command; return exit status 0, or 1 after a user error."""
    from meow_lightning.config.composition import compose_options
    from meow_lightning.sweep.leaderboard import write_leaderboard

    parser = argparse.ArgumentParser(prog=program("leaderboard"), description=DESCRIPTION)
    parser.add_argument(
        "words", nargs="*", metavar="OPTION", help="outputs=FOLDER (default: outputs), store=FOLDER (default: in it)"
    )
    options = compose_options(parser.parse_args(arguments).words)
    page, line = write_leaderboard(Path(options.store), Path(options.outputs) / "reports")
    sys.stdout.write(f"{line}\nleaderboard: {page}\nbeside it leaderboard.md and leaderboard.csv\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
