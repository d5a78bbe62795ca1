"""Mistakes in the values of options: found by type and range, and worded with the allowed values and the nearest."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from meow_lightning.config.ranges import FINITE, Range
from meow_lightning.errors import UserError, group_errors, invalid_option, nearest, suggestion

STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
WORDS = {
    int: "an integer", float: "a number", str: "a string", bool: "true or false", type(None): "null",
    dict: "a mapping",
}  # fmt: skip
# Kinds of mistakes in a pydantic error: a value, a missing or unknown option, and a whole sentence.
INVALID, MISSING, UNKNOWN, SENTENCE = KINDS = ("invalid", "missing_option", "unknown_option", "sentence")


class Rule(NamedTuple):
    """A condition on a value besides its type, written beside the type: ``Annotated[str, Rule(pattern, "…")]``.

    Attributes:
        accepts: Whether a value of the type fulfils the condition.
        expected: Description of the values that do.
    """

    accepts: typing.Callable[[Any], bool]
    expected: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Add the check to the schema of the annotated type."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, value: Any) -> Any:
        if not self.accepts(value):
            raise PydanticCustomError("rule", "{expected}", {"expected": self.expected})
        return value


class Mistake(NamedTuple):
    """A mistake in one option.

    Attributes:
        kind: One of ``KINDS``.
        path: Names of the option below the group that was checked.
        given: Its value.
        context: For ``INVALID``, ``expected`` and ``near``; for the others the ``text`` of the sentence or its end.
    """

    kind: str
    path: tuple[str, ...]
    given: Any
    context: dict[str, Any]

    def details(self) -> InitErrorDetails:
        """Convert to an error of pydantic, which collects those of all groups."""
        error = PydanticCustomError(self.kind, "{kind}", {"kind": self.kind, **self.context})  # type: ignore[arg-type]
        return InitErrorDetails(type=error, loc=self.path, input=self.given)


def missing(name: str, end: str = "") -> Mistake:
    """Build the mistake of an option without a value; ``end`` ends its sentence."""
    return Mistake(MISSING, (name,), None, {"text": end})


def unknown(name: str, allowed: Collection[str], *, owner: str = "") -> Mistake:
    """Build the mistake of an option that does not exist.

    Args:
        name: Its name.
        allowed: The names that exist, to suggest the nearest.
        owner: The component that has no such option; empty for a group.
    """
    return Mistake(UNKNOWN, (name,), None, {"text": f"{f' of {owner}' * bool(owner)}{suggestion(name, allowed)}"})


def invalid(given: Any, expected: str, *, path: tuple[str, ...] = (), near: str | None = None) -> Mistake:
    """Build the mistake of an invalid value."""
    return Mistake(INVALID, path, given, {"expected": expected, "near": near})


def sentence(error: UserError) -> Mistake:
    """Build the mistake that an error describes as a whole."""
    return Mistake(SENTENCE, (), None, {"text": str(error)})


def user_error(error: ValidationError, *, group: str = "") -> UserError:
    """Convert collected mistakes to the error that the user sees, one line each.

    Args:
        error: The mistakes.
        group: Dotted option of the group that was validated; empty for all options.
    """
    return group_errors(dict.fromkeys(_line(each, group) for each in error.errors(include_url=False)))


def invalid_value(group: str, mistake: Mistake) -> UserError:
    """Convert one mistake in a value to the error that the user sees."""
    option = ".".join([group, *mistake.path])
    return invalid_option(option, mistake.given, mistake.context["expected"], did_you_mean=mistake.context["near"])


def _line(error: Any, group: str) -> str:
    option, context = ".".join([*[group] * bool(group), *map(str, error["loc"])]), error["ctx"]
    if error["type"] == MISSING:
        return f"{option} is missing{context['text']}"
    if error["type"] == UNKNOWN:
        return f"{option} is not an option{context['text']}"
    if error["type"] == SENTENCE:
        return str(context["text"])
    return str(invalid_option(option, error["input"], context["expected"], did_you_mean=context["near"]))


@lru_cache(maxsize=512)
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config=STRICT)


def value_mistakes(value: Any, hint: Any, *, path: tuple[str, ...] = ()) -> Iterator[Mistake]:
    """Yield the mistakes of a value: one, or one for each entry of a mapping.

    Args:
        value: The value of an option.
        hint: Its type, with ranges and rules.
        path: Names of the option.
    """
    if accepts(value, hint):
        yield from _infinite(value, path)
        return
    table = next((part for part in alternatives(hint) if typing.get_origin(part) is dict), None)
    if isinstance(value, Mapping) and table is not None:
        for key, entry in value.items():
            yield from value_mistakes(entry, typing.get_args(table)[1], path=(*path, str(key)))
        return
    choices = [str(each) for part in alternatives(hint) if typing.get_origin(part) is Literal for each in part.__args__]
    yield invalid(value, _expected(value, hint), path=path, near=nearest(value, choices))


def accepts(value: Any, hint: Any) -> bool:
    """Whether a plain value has a type, is in its range and fulfils its rules."""
    try:
        _adapter(hint).validate_python(value)
    except ValidationError:
        return False
    return True


def _infinite(value: Any, path: tuple[str, ...]) -> Iterator[Mistake]:
    """Yield the mistakes of numbers in a free-form mapping or list."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _infinite(entry, (*path, str(key)))
    elif isinstance(value, list):
        if bad := next((each for each in value if isinstance(each, float) and not math.isfinite(each)), None):
            yield invalid(value, FINITE.describe(entry=bad), path=path)
    elif isinstance(value, float) and not math.isfinite(value):
        yield invalid(value, FINITE.describe(), path=path)


def _expected(value: Any, hint: Any) -> str:
    """Describe the valid values of an option: its range if the value is a number outside it, else its type."""
    try:
        _adapter(hint).validate_python(value)
    except ValidationError as error:
        found = error.errors(include_url=False)
        if rule := next((each for each in found if each["type"] == "rule"), None):
            return str(rule["ctx"]["expected"])
        outside = next((each for each in found if each["type"] in ("range", "finite_number")), None)
        if outside is not None:
            entry = outside["input"] if isinstance(value, list) else None
            return next(_ranges(hint), FINITE).describe(entry=entry)
    return describe_type(hint)


def _ranges(hint: Any) -> Iterator[Range]:
    """Yield the ranges in a type, outer ones first."""
    yield from (each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Range))
    for part in typing.get_args(hint):
        if not isinstance(part, (str, Range)):
            yield from _ranges(part)


def range_of(hint: Any) -> Range | None:
    """Find the range of a numeric type; ``None`` if it has none."""
    return next(_ranges(hint), None)


def alternatives(hint: Any) -> list[Any]:
    """List the alternatives of a type, without ranges and rules."""
    bare = hint
    while typing.get_origin(bare) is Annotated:
        bare = typing.get_args(bare)[0]
    if typing.get_origin(bare) in (typing.Union, types.UnionType):
        return [member for part in typing.get_args(bare) for member in alternatives(part)]
    return [bare]


def describe_type(hint: Any) -> str:
    """Describe a type in words, such as ``an integer or null``."""
    return " or ".join(dict.fromkeys(_words(part) for part in _without_int(alternatives(hint))))


def _without_int(members: list[Any]) -> list[Any]:
    """Leave out the integers of a type that takes any number."""
    return [part for part in members if part is not int or float not in members]


def _words(part: Any) -> str:
    origin, parts = typing.get_origin(part), typing.get_args(part)
    if origin in (list, tuple):
        return f"a list [{', '.join(map(describe_type, parts))}{', …' if origin is list else ''}]"
    if origin is dict:
        return "a mapping by model" if parts[1] is not Any else "a mapping"
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}" if len(parts) > 1 else str(parts[0])
    part = origin or part
    return WORDS[part] if part in WORDS else part.__name__ if inspect.isclass(part) else str(part)
