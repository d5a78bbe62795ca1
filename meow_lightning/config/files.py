"""Locations of the configuration files: inside the package of an installed wheel, beside it in a checkout."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def configuration_folder(name: str) -> Path:
    """Locate a folder of configuration files.

    Args:
        name: ``conf`` or ``experiments``.
    """
    package = Path(str(files("meow_lightning")))
    packaged = package / name
    return packaged if packaged.is_dir() else package.parent / name


CONF = configuration_folder("conf")
EXPERIMENTS = configuration_folder("experiments")
