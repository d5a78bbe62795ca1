"""Published results, read from ``experiments/expected/``: one file per source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from meow_lightning.config.files import EXPERIMENTS
from meow_lightning.config.mistakes import accepts
from meow_lightning.config.ranges import Number
from meow_lightning.errors import UserError, invalid_option, suggestion
from meow_lightning.report.paper_comparison import Published

FOLDER = EXPERIMENTS / "expected"
LEVELS = ("model", "split", "method", "number")


def expected(folder: Path) -> list[Published]:
    """Read every file of a folder, ordered by name.

    Raises:
        UserError: A file is invalid.
    """
    return [_read(path) for path in sorted(folder.glob("*.yaml"))]


def _read(path: Path) -> Published:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}; correct or remove it") from error
    hints = [name for name in Published.__annotations__ if name != "settings"]  # files name none
    if not isinstance(content, Mapping):
        raise UserError(f"{path} must be a mapping with the keys {', '.join(hints)}")
    for key in content:
        if key not in hints:
            raise UserError(f"{path}: {key} is not one of {', '.join(hints)}{suggestion(key, hints)}")
    for key in hints:
        if not isinstance(content.get(key), Mapping if key == "figures" else str):
            raise UserError(f"{path}: {key} must be {'a mapping by model' if key == 'figures' else 'a string'}")
    _check(content["figures"], f"{path}: figures", LEVELS)
    return Published(**content)


def _check(node: Mapping[str, Any], where: str, levels: tuple[str, ...]) -> None:
    """Check that figures are nested by model, split, method and number, and that each is a number."""
    inner = levels[1:]
    for key, value in node.items():
        if inner and not isinstance(value, Mapping):
            raise invalid_option(f"{where}.{key}", value, f"a mapping by {inner[0]}")
        if not inner and not accepts(value, Number):
            raise invalid_option(f"{where}.{key}", value, "a number, such as 9.0e-96")
        if inner:
            _check(value, f"{where}.{key}", inner)
