"""``meow-lightning sweeps``, also ``python -m meow_lightning.cli.sweeps``: lists the ready-made sweeps."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from meow_lightning.cli.command import reports_user_errors
from meow_lightning.config.program import program
from meow_lightning.errors import check_choice

if TYPE_CHECKING:
    from meow_lightning.sweep.listing import SweepState

DESCRIPTION = """\
List the ready-made sweeps: what each compares, how many of its runs are in the store, and the command that computes
the others and writes its tables. Nothing is computed or written."""
WIDTH = 80


@reports_user_errors
def main(arguments: Sequence[str]) -> int:
    """Run the command; return exit status 0, or 1 after a user error."""
    parser = argparse.ArgumentParser(prog=program("sweeps"), description=DESCRIPTION)
    parser.add_argument(
        "words", nargs="*", metavar="NAME|OPTION",
        help="names of sweeps (default: all), and options of their runs, such as outputs=FOLDER or seed=0,1",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    given = parser.parse_intermixed_args(arguments)
    states = _states(given.words)
    text = json.dumps([as_json(state) for state in states], indent=1, ensure_ascii=False)
    sys.stdout.write(f"{text}\n" if given.json else "\n".join(map(describe, states)))
    return 0


def _states(words: Sequence[str]) -> list[SweepState]:
    """Separate names from options, and collect the states.

    Raises:
        UserError: A name or an option is invalid.
    """
    from meow_lightning.config.hydra_errors import choices
    from meow_lightning.sweep.listing import sweep_states

    options = [word for word in words if "=" in word]
    names = [word for word in words if "=" not in word]
    for name in names:
        check_choice("sweep", name, choices("sweep"))
    return sweep_states(names, options)


def as_json(state: SweepState) -> dict[str, Any]:
    """Convert a state to the entry of the JSON list."""
    return {
        "name": state.name, "claim": state.claim, "runs": state.runs, "done": state.done, "missing": state.missing,
        "command": state.command, "note": state.note,
    }  # fmt: skip


def describe(state: SweepState) -> str:
    """Describe a sweep: name and counts, the claim, a note if any, and the command, which stays in one line."""
    rest = f"{state.missing} missing" if state.missing else "complete"
    lines = [f"{state.name}: {state.runs} runs, {state.done} done, {rest}", _indented(state.claim)]
    lines += [_indented(state.note)] if state.note else []
    return "\n".join([*lines, f"  {state.command}", ""])


def _indented(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
