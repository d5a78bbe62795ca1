"""Quoting of command-line values as users type them, for Hydra's grammar."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from meow_lightning.config.files import CONF

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

# One choice of a sweep: a quoted text, or everything up to the next comma.
_CHOICE = re.compile(r"""\s*'(?:[^'\\]|\\.)*'\s*(?=,|$)|\s*"(?:[^"\\]|\\.)*"\s*(?=,|$)|[^,]*""", re.DOTALL)
# Escapes of a line break and a tab, which a shell passes on as typed. A doubled backslash is none, so that quoting a
# word again does not change it.
_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\([nrt])")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}
# Last parts of options with a few valid values: a comma in one separates several values, which require -m.
ENUMERATED = ("goal", "cache", "split", "dtype", "attention", "name", "_target_")
# Groups whose files name a class; its signature determines which options are strings.
CLASS_GROUPS = ("dataset", "inversion")


def quote_value(word: str, *, multirun: bool) -> str:
    r"""Quote a command-line word so that Hydra reads its value as typed.

    Values that the grammar cannot parse (non-ASCII letters, brackets, ``=``, ``#`` …) are quoted, and so are values of
    string options that it would read as a list, a number or a sweep. Quoted strings stay unchanged, except for
    ``\n``, ``\r`` and ``\t`` in the texts of a prompt, see :func:`unescape`.

    Args:
        word: Such as ``dataset.forget=/data/Müller [v2].jsonl``.
        multirun: Whether a comma separates the values of a sweep; otherwise it is part of the value.
    """
    name, sign, value = word.partition("=")
    if not sign or word.startswith(("-", "~")):
        return word
    if _is_prompt_text(name):
        value = unescape(value)
        word = f"{name}={value}"
    parsed = _parsed(word)
    if parsed is None:
        quoted = f"{name}={','.join(_choices(name, value)) if multirun else _in_quotes(value)}"
        return quoted if _parsed(quoted) is not None else word
    if name.lstrip("+") not in text_options(name.lstrip("+").partition(".")[0]):
        return word
    if parsed.is_sweep_override():
        if multirun:
            return f"{name}={','.join(_choices(name, value))}" if _is_list(parsed) else word
        return word if name.rpartition(".")[2] in ENUMERATED else f"{name}={_in_quotes(value)}"
    return word if _as_typed(parsed, value) else f"{name}={_in_quotes(value)}"


def shell_word(word: str) -> str:
    """Undo :func:`quote_value`; a word that it did not quote is returned unchanged."""
    parsed = _parsed(word)
    if parsed is None or parsed.is_sweep_override():
        return word
    name, value = word.partition("=")[0], str(parsed.value())
    for typed in (escape(value), value):  # on one line, where the option allows it
        if quote_value(f"{name}={typed}", multirun=False) == word:
            return f"{name}={typed}"
    return word


def unescape(text: str) -> str:
    r"""Replace ``\n``, ``\r`` and ``\t``, as typed in a shell, by the characters they stand for.

    Elsewhere a backslash is a character like any other; one before another backslash starts no escape.

    Args:
        text: Text of a prompt as typed.
    """
    return _ESCAPE.sub(lambda match: match[1] + _ESCAPED[match[2]], text)


def escape(text: str) -> str:
    """Undo :func:`unescape`, so that the text fits on one line.

    Args:
        text: Any text.
    """
    return text.translate({ord(character): f"\\{letter}" for letter, character in _ESCAPED.items()})


def _is_prompt_text(name: str) -> bool:
    """Whether a word sets a text of a prompt, such as ``model.prompt.template``."""
    option = name.lstrip("+")
    return ".prompt." in option and option in text_options(option.partition(".")[0])


@cache
def text_options(group: str) -> frozenset[str]:
    """Collect the dotted options of a group (or the option of that name) whose value is a string."""
    return frozenset(name for name, hint in _hints(group) if _is_text(hint))


def _hints(group: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted option and type of every option of a group, from the schema or its classes' signatures."""
    from meow_lightning.config.options import option_types
    from meow_lightning.config.schema import RunConfig
    from meow_lightning.config.signature import argument_types
    from meow_lightning.config.training_options import Launcher

    yield from option_types(RunConfig, "")
    if group == "hydra":
        yield from option_types(Launcher, "hydra.launcher")
    for file in sorted((CONF / group).glob("*.yaml")) if group in CLASS_GROUPS else ():
        module, _, name = yaml.safe_load(file.read_text(encoding="utf-8"))["_target_"].rpartition(".")
        target = getattr(importlib.import_module(module), name)
        yield from ((f"{group}.{name}", hint) for name, hint in argument_types(target).items())


def _is_text(hint: Any) -> bool:
    """Whether a type is ``str`` or ``str | None``."""
    from meow_lightning.config.mistakes import alternatives

    return set(alternatives(hint)) in ({str}, {str, type(None)})


def _parsed(word: str) -> Override | None:
    """Parse a word with Hydra's grammar; ``None`` if it is invalid."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None


def _is_list(parsed: Override) -> bool:
    """Whether a sweep is a plain comma-separated list, not ``range(…)``, ``glob(…)`` or ``choice(…)``."""
    from hydra.core.override_parser.types import ChoiceSweep

    return isinstance(parsed._value, ChoiceSweep) and parsed._value.simple_form


def _as_typed(parsed: Override, value: str) -> bool:
    """Whether Hydra reads a value as the text typed, as a quoted text, or as null."""
    from hydra.core.override_parser.types import QuotedString

    return parsed._value is None or isinstance(parsed._value, QuotedString) or parsed._value == value


def _choices(name: str, value: str) -> list[str]:
    """Split a value at its commas and quote the parts that need it."""
    choices: list[str] = []
    position = 0
    while position <= len(value):
        match = _CHOICE.match(value, position)
        choice = match.group() if match else ""
        parsed = _parsed(f"{name}={choice}")
        valid = parsed is not None and not parsed.is_sweep_override() and _as_typed(parsed, choice)
        choices.append(choice if valid else _in_quotes(choice))
        position += len(choice) + 1  # past the comma
    return choices


def _in_quotes(text: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text=text, quote=Quote.single).with_quotes()
