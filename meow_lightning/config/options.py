"""Base classes of the typed options: groups of options, and components that name a class with its arguments."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from meow_lightning.config.instantiate import component_class, instantiate
from meow_lightning.config.mistakes import (
    KINDS,
    SENTENCE,
    STRICT,
    Mistake,
    alternatives,
    invalid,
    missing,
    sentence,
    unknown,
    value_mistakes,
)
from meow_lightning.config.signature import argument_mistakes
from meow_lightning.errors import UserError

# Arguments of a writer that runs a model itself, known only at run time.
RUNTIME_ARGUMENTS = ("folder", "device", "adaptive_batch_size")


def consistency(check: Callable[[Any], None]) -> Any:
    """Decorate a method that raises ``UserError`` if the valid options of a group do not fit each other."""

    @functools.wraps(check)
    def collected(self: Any) -> Any:
        try:
            check(self)
        except UserError as error:
            raise PydanticCustomError(SENTENCE, "{text}", {"text": str(error)}) from error
        return self

    return model_validator(mode="after")(collected)


class Options(BaseModel):
    """A group of options: a field per option, with its type, range and meaning."""

    model_config = ConfigDict(
        **STRICT, extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )
    _given: tuple[str, ...] = PrivateAttr(())

    @model_validator(mode="wrap")
    @classmethod
    def _collect(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Validate the group, and word its mistakes."""
        try:
            made = handler(data)
        except ValidationError as error:
            found = list(_reworded(cls, error, data))
            raise ValidationError.from_exception_data(cls.__name__, found) from error
        if isinstance(data, Mapping):
            made._given = tuple(data)
        return made

    @classmethod
    def missing_option(cls, name: str, data: Mapping[str, Any]) -> Mistake | None:
        """Word the mistake of a required option that is not given; ``None`` if that of another one says it all."""
        return missing(name)

    @classmethod
    def names(cls) -> dict[str, str]:
        """Map the names of the options to those of the fields."""
        return {field.alias or name: name for name, field in cls.model_fields.items()}

    def plain(self) -> dict[str, Any]:
        """Convert to the plain values that were given, in their order, as they are part of keys and records."""
        names = self.names()
        return {name: plain_value(getattr(self, names[name])) for name in self._given if name in names}


def plain_value(value: Any) -> Any:
    """Convert groups to mappings, also those within a mapping."""
    if isinstance(value, Options):
        return value.plain()
    return {key: plain_value(entry) for key, entry in value.items()} if isinstance(value, dict) else value


def _reworded(group: type[Options], error: ValidationError, data: Any) -> Iterator[Any]:
    """Reword the errors of a group's own options; those of nested groups already are."""
    names, seen = group.names(), set()
    for each in error.errors(include_url=False):
        loc, kind = each["loc"], each["type"]
        if kind in KINDS:
            path = loc[1:] if loc[:1] == ("arguments",) else loc
            yield Mistake(kind, tuple(map(str, path)), each["input"], each["ctx"]).details()
        elif not loc:
            yield invalid(data, f"a group of the options {', '.join(names)}").details()
        elif (name := str(loc[0])) not in seen:
            seen.add(name)
            if kind == "missing" and len(loc) == 1:
                if (found := group.missing_option(name, data)) is not None:
                    yield found.details()
            elif kind == "extra_forbidden" and len(loc) == 1:
                yield unknown(name, names).details()
            else:
                hint = group.model_fields[names[name]].rebuild_annotation()
                yield from (found.details() for found in value_mistakes(data[name], hint, path=(name,)))


def option_types(group: type[Options], path: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the type of every option of a group and of the groups in it.

    Args:
        group: The class of the group.
        path: Its dotted name; empty for all options of a run.
    """
    for name, field in group.model_fields.items():
        option, hint = f"{path}.{field.alias or name}".lstrip("."), field.rebuild_annotation()
        if name == "arguments":
            continue
        yield option, hint
        for part in alternatives(hint):
            if inspect.isclass(part) and issubclass(part, Options):
                yield from option_types(part, option)


class ComponentConfig(Options):
    """A component: a class or function, its arguments, and the options that only the pipeline reads.

    Attributes:
        provided: Arguments that only the program can provide.
        passed: Options of this class that are arguments as well.
    """

    provided: ClassVar[tuple[str, ...]] = ()
    passed: ClassVar[tuple[str, ...]] = ()

    name: str
    """Name of the choice, in reports and in the names of folders."""
    target: str = Field(alias="_target_")
    """What implements it: ``package.module.Class``, called with the arguments."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the target by name, checked against its signature."""

    @model_validator(mode="before")
    @classmethod
    def _split(cls, data: Any) -> Any:
        """Separate the arguments of the target from the options of the pipeline."""
        if not isinstance(data, Mapping):
            return data
        names = cls.names().keys() - {"arguments"}
        own = {key: value for key, value in data.items() if key in names}
        arguments = {key: value for key, value in data.items() if key not in names or key in cls.passed}
        return {**own, "arguments": arguments}

    @field_validator("arguments")
    @classmethod
    def _check_arguments(cls, arguments: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Check the arguments against the signature of the target, without calling it."""
        if "target" not in info.data:
            return arguments
        allow = (info.context or {}).get("allow", ())
        try:
            target = component_class({"_target_": info.data["target"]}, allow=allow)
            found = list(argument_mistakes(target, info.data["target"], arguments, provided=cls.provided))
        except UserError as error:
            found = [sentence(error)]
        if found:
            raise ValidationError.from_exception_data(cls.__name__, [each.details() for each in found])
        return arguments

    def plain(self) -> dict[str, Any]:
        """Convert to the plain values that were given, in their order."""
        content = {**self.arguments, **super().plain()}
        return {name: content[name] for name in self._given}

    @property
    def keyed(self) -> dict[str, Any]:
        """The part that defines the target, which is part of an artifact's key."""
        return {"_target_": self.target, **self.arguments}

    def instantiate(self, *, allow: typing.Iterable[str], **extra: Any) -> Any:
        """Build the object.

        Args:
            allow: Further packages that a target may be of.
            **extra: Arguments that only the program can provide.

        Raises:
            UserError: The target is not allowed or its construction failed.
        """
        return instantiate(self.keyed, allow=allow, **extra)
