"""Instantiation of the components that config nodes name, restricted to an allow-list of packages."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from meow_lightning.errors import UserError, invalid_option

# A config may only name callables of these packages, and of those that the user adds in `trusted_packages`.
PACKAGES = ("meow_lightning",)


def component_class(node: Mapping[str, Any], *, allow: Iterable[str]) -> Any:
    """Import the class or function that a node's ``_target_`` names.

    Raises:
        UserError: Its package is not on the allow-list, or the name does not exist.
    """
    path = str(node.get("_target_"))
    package = path.split(".")[0]
    if package not in (*PACKAGES, *allow):
        expected = f"a callable of {' or '.join((*PACKAGES, *allow))}"
        raise invalid_option("_target_", path, f"{expected}; to trust its package, set trusted_packages=[{package}]")
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"_target_={path} cannot be imported: {error}") from error


def component_versions(component: Any) -> dict[str, int]:
    """Collect the versions of a class and of its ancestors that define one, by class name.

    A new version of an ancestor therefore counts even if the class defines its own. Classes and functions without a
    version, such as those from outside the package, contribute nothing.
    """
    versioned = [
        ancestor
        for ancestor in getattr(component, "__mro__", ())
        if ancestor is component or "version" in vars(ancestor)
    ]
    versions = {ancestor.__name__: getattr(ancestor, "version", None) for ancestor in versioned}
    return {name: version for name, version in versions.items() if isinstance(version, int)}


def instantiate(node: Mapping[str, Any], *, allow: Iterable[str], **extra: Any) -> Any:
    """Build the object that a node describes.

    Args:
        node: Its ``_target_``, and the arguments.
        allow: Further packages that it may name.
        **extra: Arguments that only the program can provide.

    Raises:
        UserError: The target is not allowed or its construction failed.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    component_class(node, allow=allow)
    try:
        return instantiate(dict(node), _recursive_=False, _convert_="all", **extra)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error  # the original message instead of Hydra's
        reason = str(error.__cause__ or error).splitlines()[-1]
        raise UserError(f"{node['_target_']} cannot be instantiated: {reason}") from error
