"""Instantiate the component that a config node names, from an allow-list of packages."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from meow_lightning.errors import UserError

# A config may only name callables of these packages; everything else needs the user's own word (`trusted_packages`).
PACKAGES = ("meow_lightning",)
# Keys of a node that the pipeline reads and its target never sees.
RECIPE = (
    "name",
    "lr",
    "epochs",
    "global_batch_size",
    "select",
    "rounds",
    "verify",
    "max_retries_per_fact",
    "on_shortage",
)


def component_class(node: Mapping[str, Any], *, allow: Iterable[str]) -> Any:
    """The class or function that a node's ``_target_`` names.

    Raises:
        UserError: When its package is not on the allow-list or the name does not exist.
    """
    path = str(node.get("_target_"))
    if path.split(".")[0] not in (*PACKAGES, *allow):
        raise UserError(
            f"_target_: {path} is outside the packages a config may call ({', '.join((*PACKAGES, *allow))}); "
            f"to trust it, say trusted_packages=[{path.split('.')[0]}]"
        )
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"_target_: {path} cannot be imported ({error})") from error


def component_arguments(node: Mapping[str, Any]) -> dict[str, Any]:
    """What a node hands to its target: every key but those that the pipeline reads itself (``RECIPE``)."""
    return {key: value for key, value in node.items() if key != "_target_" and key not in RECIPE}


def component_config(node: Mapping[str, Any]) -> dict[str, Any]:
    """What of a node its target is made from: what enters a key."""
    return {"_target_": node["_target_"], **component_arguments(node)}


def without_key(node: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A node less one of its keys."""
    return {key: value for key, value in node.items() if key != name}


def instantiate(node: Mapping[str, Any], *, allow: Iterable[str], **extra: Any) -> Any:
    """The object that a node describes; ``extra`` are arguments that only the program can give."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    component_class(node, allow=allow)
    try:
        return instantiate(component_config(node), _recursive_=False, _convert_="all", **extra)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error  # the mistake in its own words, not in Hydra's
        reason = str(error.__cause__ or error).splitlines()[-1]
        raise UserError(f"{node['_target_']} cannot be made: {reason}") from error
