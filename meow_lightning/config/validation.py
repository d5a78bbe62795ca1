"""Validation of a run's options: resolution, type checks, and checks of component arguments."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from meow_lightning.config.instantiate import component_arguments, component_class, instantiate
from meow_lightning.config.precision import weights_dtype
from meow_lightning.config.ranges import check_ranges
from meow_lightning.config.schema import GROUPS, SCRATCH, Config, Memo
from meow_lightning.config.search_path import ExperimentsSearchPath
from meow_lightning.errors import UserError, invalid_option, nearest, suggestion


def register() -> None:
    """Register the schema that ``conf/config.yaml`` names, the ``weights_dtype`` resolver and ``experiments/``."""
    ConfigStore.instance().store(name="schema", node=Config)
    OmegaConf.register_new_resolver("weights_dtype", weights_dtype, replace=True)
    Plugins.instance().register(ExperimentsSearchPath)


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Resolve the options to plain values and check every typed group.

    Raises:
        UserError: A value is missing, has the wrong type or is out of its range; the message names its option.
    """
    options: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    for name in options:
        if name not in Config.__annotations__:
            raise UserError(f"{name} is not an option{suggestion(name, Config.__annotations__)}")
    model = options.get("model")
    if isinstance(model, dict) and any(model.get(name) for name in ("base", "target", "released_checkpoints")):
        model |= dict.fromkeys(SCRATCH)  # a provided model is not trained from scratch, but a debug file may set these
    for path, group in GROUPS.items():
        node: Any = options
        for name in path.split("."):
            node = node.get(name) if isinstance(node, dict) else None
        if isinstance(node, dict):
            check_types(path, node, group)
        elif node is not None:
            raise invalid_option(path, node, f"a group of the options {', '.join(group.__annotations__)}")
    check_ranges(options)
    return options


def check_types(path: str, node: Mapping[str, Any], group: type) -> None:
    """Check that every value of a group has its type.

    Args:
        path: The dotted option of the group.
        node: Its values.
        group: Its ``TypedDict``.

    Raises:
        UserError: A value is missing, unknown or of another type; the message names the option.
    """
    hints = typing.get_type_hints(group)
    missing = [key for key in hints if key in group.__required_keys__ and key not in node]  # type: ignore[attr-defined]
    if missing:
        # A single key of a selection comes from an experiment or an override meant for another method.
        stray = path == "method.select" and len(missing) > 1
        hint = f"; this method selects no inverted facts, so set no option of {path}" if stray else ""
        raise UserError(f"{path}.{missing[0]} is missing{hint}")
    for key, value in node.items():
        if key not in hints:
            raise UserError(f"{path}.{key} is not an option{suggestion(key, hints)}")
        if not has_type(value, hints[key]):
            raise _invalid_type(f"{path}.{key}", value, hints[key])


def check_call(name: str, node: Mapping[str, Any], /, *, allow: Iterable[str], **extra: Any) -> Any:
    """Check the arguments of a node against the signature of its target, without calling it; returns the target.

    Args:
        name: The config group, for messages.
        node: The config node.
        allow: Further packages that it may name.
        **extra: Arguments that only the program can provide, as in :func:`instantiate`.

    Raises:
        UserError: An argument is missing, unknown or of the wrong type; the message names its option.
    """
    target = component_class(node, allow=allow)
    given = component_arguments(node)
    signature = inspect.signature(target)
    for key in given:
        if key not in signature.parameters:
            raise UserError(
                f"{name}.{key} is not an option of {node['_target_']}{suggestion(key, signature.parameters)}"
            )
    for key, parameter in signature.parameters.items():
        if key not in given and key not in extra and parameter.default is parameter.empty:
            raise UserError(f"{name}.{key} is missing: {node['_target_']} requires it")
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    for key, value in given.items():
        if key in hints and not has_type(value, hints[key]):
            raise _invalid_type(f"{name}.{key}", value, hints[key])
    return target


def check_measure(node: Mapping[str, Any], *, allow: Iterable[str]) -> Any:
    """Check the types and ranges of ``memo``, and instantiate its measure.

    Raises:
        UserError: A value is invalid; the message names its option.
    """
    check_types("memo", {key: value for key, value in node.items() if key in Memo.__annotations__}, Memo)
    check_call("memo", node, allow=allow, name=node["name"])
    return instantiate(node, allow=allow, name=node["name"])


def _invalid_type(option: str, value: Any, hint: Any) -> UserError:
    choices = [str(choice) for choice in typing.get_args(hint)] if typing.get_origin(hint) is Literal else []
    return invalid_option(option, value, _type_name(hint), did_you_mean=nearest(value, choices))


def _type_name(hint: Any) -> str:
    """Describe a type in words, such as ``an integer or null``."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    words = {int: "an integer", float: "a number", str: "a string", bool: "true or false", type(None): "null"}
    if origin in (list, tuple):
        return f"a list [{', '.join(map(_type_name, parts))}{', …' if origin is list else ''}]"
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}" if len(parts) > 1 else str(parts[0])
    if parts:
        return " or ".join(map(_type_name, parts))
    return words[hint] if hint in words else hint.__name__ if inspect.isclass(hint) else str(hint)


def has_type(value: Any, hint: Any) -> bool:
    """Whether a plain value matches a type; int counts as float, and unknown kinds of types match anything."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in parts
    if parts and (origin is typing.Union or str(origin) == "<class 'types.UnionType'>"):
        return any(has_type(value, part) for part in parts)
    if hint in (int, float, str, bool, type(None)):
        kinds = (int, float) if hint is float else hint
        return isinstance(value, kinds) and (hint is bool or not isinstance(value, bool))
    if origin in (list, tuple):
        if isinstance(value, list) and (origin is list or ... in parts):
            return all(has_type(item, parts[0]) for item in value)
        return isinstance(value, list) and len(value) == len(parts) and all(map(has_type, value, parts))
    return True
