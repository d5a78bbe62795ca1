"""Unlearning methods: a class per file, and a constructor per file of ``conf/method`` with that file's defaults.

``meow.methods.NPO(beta=0.2)`` builds the method of ``conf/method/npo.yaml`` with another beta. The constructors are
named like the files, without underscores and in any case: ``NPO``, ``SimNPO``, ``GradAscent``, ``NpoGd`` …;
``dir(meow.methods)`` lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meow_lightning.methods.base import BaseMethod


def __getattr__(name: str) -> Callable[..., BaseMethod]:
    """Return the constructor of a method with the defaults of its file."""
    from meow_lightning.config.methods import constructor

    found = None if name.startswith("_") else constructor(name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}: expected one of {', '.join(__dir__())}")
    return found


def __dir__() -> list[str]:
    """List the constructors, one per file of ``conf/method``, in camel case."""
    from meow_lightning.config.methods import method_names

    return ["".join(part.capitalize() for part in name.split("_")) for name in method_names()]
