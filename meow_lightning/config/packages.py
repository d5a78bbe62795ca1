"""Versions of packages that only some options need: parts of the keys of what they compute."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from meow_lightning.errors import UserError


def package_versions(packages: Iterable[str], *, option: str, extra: str, instead: str) -> dict[str, str]:
    """Return the versions of some packages.

    Args:
        packages: Names of distributions.
        option: The option that needs them, for messages.
        extra: The extra of this project that installs them.
        instead: The option to set without them.

    Raises:
        UserError: One is not installed.
    """
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError as error:
            raise UserError(
                f"{option} needs {package}: pip install 'meow-lightning[{extra}]', or set {instead}"
            ) from error
    return found
