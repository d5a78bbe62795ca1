"""What all subcommands share: a user's error is one line and exit status 1."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence

from meow_lightning.errors import UserError

Command = Callable[[Sequence[str]], int]


def reports_user_errors(main: Command) -> Command:
    """Wrap the main function of a subcommand: print a :class:`UserError` as one line and return exit status 1.

    Args:
        main: Takes the arguments without the program's name and returns the exit status.
    """

    @functools.wraps(main)
    def command(arguments: Sequence[str]) -> int:
        try:
            return main(arguments)
        except UserError as error:
            sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
            return 1

    return command
