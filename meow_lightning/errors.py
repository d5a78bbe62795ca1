"""The error shown to users, and the wording of errors about invalid options."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager


class UserError(Exception):
    """A mistake that the user can correct: shown as one line without a traceback; the program exits non-zero."""


class NotFiniteError(UserError):
    """NaN or infinite model outputs, which metrics would take for forgetting; stages prepend their name."""


class UserErrorGroup(UserError):  # noqa: N818 - named like ExceptionGroup
    """Several mistakes at once.

    Args:
        mistakes: One line each.
    """

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__(self.mistakes)

    def __str__(self) -> str:
        return "; ".join(self.mistakes)


def group_errors(mistakes: Iterable[str]) -> UserError:
    """Build the error of one or several mistakes, each one line."""
    found = list(mistakes)
    return UserError(found[0]) if len(found) == 1 else UserErrorGroup(found)


def mistakes_of(error: Exception) -> tuple[str, ...]:
    """List the mistakes of an error, one line each."""
    return error.mistakes if isinstance(error, UserErrorGroup) else (str(error),)


def nearest(given: object, allowed: Iterable[str]) -> str | None:
    """Find the allowed value most similar to the given one, ignoring case; ``None`` if none is similar."""
    values = {value.casefold(): value for value in allowed}
    similar = difflib.get_close_matches(str(given).casefold(), values, n=1, cutoff=0.5)
    return values[similar[0]] if similar else None


def suggestion(given: object, allowed: Iterable[str]) -> str:
    """Format the nearest allowed value as ``. Did you mean meow?``; empty if none is similar."""
    return _did_you_mean(nearest(given, allowed))


def invalid_option(option: str, given: object, expected: str, *, did_you_mean: object = None) -> UserError:
    """Build the error of an invalid option value.

    Args:
        option: The option as on the command line, such as ``optim.lr``.
        given: Its value.
        expected: Description of the allowed values.
        did_you_mean: The nearest allowed value; ``None`` if none is near.
    """
    return UserError(f"{option}={given} is invalid: expected {expected}{_did_you_mean(did_you_mean)}")


@contextmanager
def renaming(pattern: str, replacement: str) -> Iterator[None]:
    """Rename the options in errors: a component does not know where in the options of a run it stands.

    Args:
        pattern: Regular expression of how the component names them.
        replacement: How the run does.
    """
    try:
        yield
    except UserError as error:
        raise UserError(re.sub(pattern, replacement, str(error))) from error


def shorten_list(names: Sequence[str], *, most: int = 2, separator: str = ", ") -> str:
    """Join the first distinct names, and count the further ones: ``a, b and 2 more``."""
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - most} more" if len(distinct) > most else ""
    return separator.join(distinct[:most]) + more


def check_choice(option: str, given: str, allowed: Iterable[str]) -> str:
    """Return ``given`` if it is allowed.

    Raises:
        UserError: It is not allowed; the message lists the allowed values and suggests the nearest.
    """
    choices = list(allowed)
    if given not in choices:
        expected = f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
        raise invalid_option(option, given, expected, did_you_mean=nearest(given, choices))
    return given


def _did_you_mean(value: object) -> str:
    return "" if value is None else f". Did you mean {value}?"
