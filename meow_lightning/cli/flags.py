"""Hydra's flags on a command line, separated from the options ``name=value``, in any position."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from meow_lightning.cli.completion import FLAG
from meow_lightning.config.hydra_errors import GROUPS
from meow_lightning.errors import UserError, check_choice, suggestion

if TYPE_CHECKING:
    from argparse import Action

MULTIRUN = ("-m", "--multirun")
# Options that users often write as flags.
OPTIONS = ("seed", "goal", "cache", "plan", "status", "preflight", "limit", "outputs", "store", "trusted_packages")


def split_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into options and flags with their values, each in order.

    Raises:
        UserError: An unknown flag, or one whose value is missing or not allowed.
    """
    from hydra._internal.utils import get_args_parser

    known = {flag: action for action in get_args_parser()._actions for flag in action.option_strings}
    words: list[str] = []
    flags: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            words.append(word)
            continue
        name, sign, value = word.partition("=")
        if name not in known and not re.match(r"-[a-z]\S", word):
            raise UserError(_unknown(word, (*known, FLAG)))
        flags.append(word)
        if name not in known:  # several short flags in one word, or one with its value attached
            continue
        if not sign and _takes_next(known[name], rest):
            value = rest.pop(0)
            flags.append(value)
        _check(name, value, known[name])
    return words, flags


def _takes_next(action: Action, rest: Sequence[str]) -> bool:
    """Whether the next argument is the value of a flag."""
    has_next = bool(rest) and not rest[0].startswith("-")
    return has_next and (action.nargs is None or (action.nargs == "?" and "=" not in rest[0]))


def _check(name: str, value: str, action: Action) -> None:
    choices = [str(choice) for choice in action.choices or ()]
    if action.nargs is None and not value:
        expected = f": expected one of {', '.join(choices)}" if choices else ""
        raise UserError(f"{name} requires a value{expected}")
    if value and choices:
        check_choice(name, value, choices)


def _unknown(word: str, known: Iterable[str]) -> str:
    name = word.lstrip("-").partition("=")[0]
    hint = f". Did you mean {name}=…?" if name in (*GROUPS, *OPTIONS) else suggestion(word, known)
    return f"{word} is not a flag{hint} (options have the form name=value, see --help)"
