"""Methods of ``conf/method`` outside a run: their constructors with the files' defaults, and the file of a method."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from omegaconf import OmegaConf

from meow_lightning.config.composition import library_options, words_of
from meow_lightning.config.files import CONF
from meow_lightning.config.instantiate import component_class
from meow_lightning.config.schema import MethodConfig
from meow_lightning.errors import UserError, check_choice, invalid_option

FOLDER = CONF / "method"


def method_names() -> list[str]:
    """List the files of ``conf/method``, without suffix."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def constructor(name: str) -> Callable[..., Any] | None:
    """Find the constructor of a method by the name of its file, without underscores and in any case.

    Args:
        name: Such as ``NPO`` or ``GradAscent``.

    Returns:
        A function that takes the method's options as keywords; ``None`` if there is no such file.
    """
    files = {_plain(stem): stem for stem in method_names()}
    stem = files.get(_plain(name))
    return None if stem is None else partial(build_method, stem)


def build_method(name: str, /, **options: Any) -> Any:
    """Build the method of a file in ``conf/method``.

    Args:
        name: Name of the file.
        **options: Options of the method that differ from the file.

    Raises:
        UserError: The name or an option is invalid.
    """
    check_choice("method", name, method_names())
    method = library_options([f"method={name}", *words_of("++method", options)]).method
    for option in options.keys() - method.arguments.keys():
        raise UserError(
            f"{option} is no argument of the method {name} but an option of its training: pass it to meow.unlearn as "
            f"options=['method.{option}=…']"
        )
    return method.instantiate(allow=())


def check_aggregate(aggregate: str, method: Any, *, name: str) -> None:
    """Check that a method's loss on the forget set can be aggregated over rows as ``optim.aggregate`` says.

    Args:
        aggregate: The option.
        method: The method.
        name: Its name.

    Raises:
        UserError: The loss is no mean over rows.
    """
    if aggregate != "mean" and not method.per_row:
        able = [stem for stem in method_names() if component_class(_described(stem).keyed, allow=()).per_row]
        expected = f"mean with method={name}, whose loss is no mean over rows; methods with one are {', '.join(able)}"
        raise invalid_option("optim.aggregate", aggregate, expected)


def file_of(method: object) -> str | None:
    """Find the file of ``conf/method`` that describes a method: that of its class with the most equal options.

    Args:
        method: The method.

    Returns:
        The file's name without suffix; ``None`` if no file names the class.
    """
    kind = type(method)
    described = [stem for stem in method_names() if _described(stem).target == f"{kind.__module__}.{kind.__qualname__}"]
    return max(described, key=lambda stem: _agreement(method, _described(stem)), default=None)


def _agreement(method: object, described: MethodConfig) -> tuple[int, int]:
    """Count a file's options that a method has; of equally many, the file with fewer others is closer."""
    given = described.arguments
    equal = sum(getattr(method, name, None) == value for name, value in given.items())
    return equal - len(given), equal


@cache
def _described(stem: str) -> MethodConfig:
    return MethodConfig.model_validate(OmegaConf.to_container(OmegaConf.load(FOLDER / f"{stem}.yaml")))


def _plain(name: str) -> str:
    return name.replace("_", "").casefold()
