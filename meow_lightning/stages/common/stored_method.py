"""The method behind a stored model, for methods whose model is not a plain checkpoint that answers by itself."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from meow_lightning.config.instantiate import component_class, instantiate
from meow_lightning.errors import UserError
from meow_lightning.methods.base import BaseMethod
from meow_lightning.models.pretrained_folder import METHOD
from meow_lightning.store.durable import write_json


def has_own_inference(method: BaseMethod) -> bool:
    """Whether a stored model is used through the method's own ``load`` and ``inference``.

    A method with an ``export`` alone writes files beside a plain checkpoint.
    """
    return any(getattr(type(method), name) is not getattr(BaseMethod, name) for name in ("load", "inference"))


def write_method(folder: Path, method: BaseMethod, node: Mapping[str, Any]) -> None:
    """Name the method of an exported model in its folder, if the model needs it.

    Args:
        folder: Folder of the model.
        method: Its method.
        node: The config node of the method: ``_target_`` and arguments.
    """
    if has_own_inference(method):
        write_json(folder / METHOD, dict(node))


def method_of(folder: Path, *, allow: Iterable[str]) -> BaseMethod:
    """Instantiate the method that a model's folder names; the base class if it names none.

    Args:
        folder: Folder of the model.
        allow: Packages besides our own whose classes may be named (``trusted_packages``).

    Raises:
        UserError: The file is damaged, or names something else than a method of these packages.
    """
    path = folder / METHOD
    if not path.is_file():
        return BaseMethod()
    try:
        node = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: not JSON ({error}); compute the model again") from error
    made = component_class(node, allow=allow) if isinstance(node, dict) else None
    if not (inspect.isclass(made) and issubclass(made, BaseMethod)):
        raise UserError(f"{path} is damaged: it names no unlearning method; compute the model again")
    method: BaseMethod = instantiate(node, allow=allow)
    return method
