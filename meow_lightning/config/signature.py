"""Types and ranges of a component's arguments, read from the signature of its constructor."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar

from meow_lightning.config.mistakes import Mistake, invalid_value, missing, range_of, unknown, value_mistakes
from meow_lightning.config.ranges import FINITE, Number

T = TypeVar("T", bound=type)


def checked_ranges(group: str) -> Callable[[T], T]:
    """Decorate a class whose constructor refuses keyword arguments outside the ranges beside their types.

    Options are checked before anything is constructed; this check is for code that constructs a component itself.

    Args:
        group: The config group of the component, for messages.
    """

    def decorate(component: T) -> T:
        construct = component.__init__  # type: ignore[misc]

        @functools.wraps(construct)
        def checked(self: Any, *args: Any, **arguments: Any) -> None:
            for name, hint in _ranged(component).items():
                if name in arguments:
                    for mistake in value_mistakes(arguments[name], hint, path=(name,)):
                        raise invalid_value(group, mistake)
            construct(self, *args, **arguments)

        component.__init__ = checked  # type: ignore[misc]
        return component

    return decorate


@functools.cache
def _ranged(component: type) -> dict[str, Any]:
    return {name: hint for name, hint in argument_types(component).items() if range_of(hint) not in (None, FINITE)}


def argument_mistakes(
    target: Any, path: str, given: Mapping[str, Any], *, provided: Collection[str]
) -> Iterator[Mistake]:
    """Yield the mistakes in the arguments of a target.

    Args:
        target: A class or function; ranges of its arguments stand beside their types.
        path: Its dotted path, for messages.
        given: The arguments by name.
        provided: Arguments that only the program can provide.
    """
    parameters = inspect.signature(target).parameters
    named = {key: each for key, each in parameters.items() if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    hints = argument_types(target)
    for name, value in given.items():
        if name in named:
            yield from value_mistakes(value, hints.get(name, Any), path=(name,))
        elif not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            yield unknown(name, named, owner=path)
    for name, parameter in named.items():
        if name not in given and name not in provided and parameter.default is parameter.empty:
            yield missing(name, f": {path} requires it")


def argument_types(target: Any) -> dict[str, Any]:
    """Collect the types of a target's arguments, with their ranges."""
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    return {name: checked_type(hint) for name, hint in hints.items() if name != "return"}


def checked_type(hint: Any) -> Any:
    """Convert a type of Python code to that of an option: a float may be an integer, and has to be finite.

    Types that no option can have are not checked.
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is float:
        return typing.Annotated[Number, FINITE]
    if origin is typing.Annotated:
        inner = Number if parts[0] is float else checked_type(parts[0])
        return typing.Annotated[(inner, *hint.__metadata__)]
    if origin is typing.Literal or hint in (int, str, bool, type(None), dict, list):
        return hint
    if origin is list or (origin is tuple and ... in parts):
        return list[checked_type(parts[0])]  # type: ignore[misc]
    if origin is dict:
        return dict[parts[0], checked_type(parts[1])]  # type: ignore[misc,valid-type]
    if parts and origin is not None and "Union" in getattr(origin, "__name__", ""):
        members = [checked_type(part) for part in parts]
        return typing.Any if typing.Any in members else functools.reduce(lambda one, other: one | other, members)
    return typing.Any
