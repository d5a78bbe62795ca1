"""Checks of a dataset's options: what was given, what is allowed, the nearest of it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from meow_lightning.errors import UserError


def check_choice(key: str, given: str, allowed: Iterable[str]) -> None:
    """Nothing, when a choice is among those allowed.

    Args:
        key: The option.
        given: What was given.
        allowed: The choices.

    Raises:
        UserError: It is none of them; the message names the nearest.
    """
    choices = list(allowed)
    if given not in choices:
        near = get_close_matches(str(given), choices, n=1, cutoff=0.0)[0]
        raise UserError(f"{key}={given} is not one of {', '.join(choices)}; the nearest is {near}: set {key}={near}")


def check_range(key: str, given: object, low: int, high: int | None) -> None:
    """Nothing, when a number is whole and lies in its range.

    Args:
        key: The option.
        given: What was given; the command line also brings fractions and words.
        low: Least value.
        high: Largest value, ``None`` for no limit.

    Raises:
        UserError: It is not; the message names the nearest.
    """
    if isinstance(given, int) and not isinstance(given, bool) and low <= given and (high is None or given <= high):
        return
    span = f"from {low}" if high is None else f"from {low} to {high}"
    if not isinstance(given, int) or isinstance(given, bool):
        raise UserError(f"{key}={given} is not a whole number {span}; set for example {key}={low}")
    nearest = low if given < low or high is None else high
    raise UserError(f"{key}={given} is not a whole number {span}; the nearest is {nearest}: set {key}={nearest}")
