"""The one kind of error that users see, and the suggestion of the nearest valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend: shown as one line, without a traceback, and ends the program non-zero."""


def suggestion(given: str, allowed: Iterable[str]) -> str:
    """A hint such as ``; did you mean meow?``, empty when nothing is near."""
    near = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def check_choice(name: str, given: str, allowed: Iterable[str]) -> str:
    """``given`` when it is allowed.

    Raises:
        UserError: Otherwise, with what is allowed and the nearest of it.
    """
    options = list(allowed)
    if given not in options:
        raise UserError(f"{name}={given} is not known{suggestion(given, options)} (allowed: {', '.join(options)})")
    return given
