"""Options of a run composed from ``conf/`` outside the command line, for use as a library."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from meow_lightning.config.files import CONF, EXPERIMENTS
from meow_lightning.config.quoting import quote_value
from meow_lightning.errors import group_errors

if TYPE_CHECKING:
    from meow_lightning.config.schema import RunConfig

LIBRARY = ("model=own",)  # defaults of the library: those of a user's own model


def compose_options(words: Sequence[str]) -> RunConfig:
    """Compose and check the options of a run as the command line does, without starting it.

    Hydra's global state is left as it was, so that a program with its own Hydra configuration can call this.

    Args:
        words: Words of the command line, such as ``method=npo`` and ``optim.lr=1e-5``.

    Raises:
        UserError: Options are invalid; a line for each, as on the command line.
    """
    return _composed(tuple(quote_value(word, multirun=False) for word in with_model_group(words)))


def library_options(words: Sequence[str]) -> RunConfig:
    """Compose the options of a function of the library: the defaults for a user's own model, changed by some words.

    Args:
        words: Words of the command line.

    Raises:
        UserError: Options are invalid.
    """
    return compose_options([*LIBRARY, *words])


def words_of(group: str, values: Mapping[str, Any]) -> list[str]:
    """Write options as words of the command line; those that are ``None`` keep their default.

    Args:
        group: The config group, such as ``dataset``; empty for options outside any group.
        values: Numbers, truth values, texts or lists, by name.
    """
    prefix = f"{group}." if group else ""
    return [f"{prefix}{name}={_spelled(value)}" for name, value in values.items() if value is not None]


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_spelled, value))}]"
    return str(value)


@lru_cache(maxsize=64)
def _composed(words: tuple[str, ...]) -> RunConfig:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from meow_lightning.config.hydra_errors import compose_words, composition_mistakes, summarize_error
    from meow_lightning.config.validation import register, resolved

    register()
    with _kept_hydra():
        try:
            return resolved(compose_words(words))
        except (HydraException, OmegaConfBaseException) as error:
            raise group_errors(composition_mistakes(summarize_error(error, words), words)) from error


@contextlib.contextmanager
def _kept_hydra() -> Iterator[None]:
    """Restore Hydra's global state afterwards."""
    from hydra.core.global_hydra import GlobalHydra

    callers = GlobalHydra.instance().hydra
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = callers  # Hydra itself replaces the instance


def with_model_group(words: Sequence[str]) -> list[str]:
    """Add ``model=own`` if the options name the user's own model without choosing a model group.

    Args:
        words: Words of the command line.
    """
    provided = any(
        word.startswith(("model.base=", "model.target=")) and word.partition("=")[2] not in ("", "null", "released")
        for word in words
    )
    chosen = any(word.startswith("model=") or _chooses_model(word) for word in words)
    return [*words, *(["model=own"] if provided and not chosen else [])]


def _chooses_model(word: str) -> bool:
    """Whether an option selects an experiment or sweep file that chooses the model."""
    group, _, name = word.partition("=")
    paths = [root / group / f"{name}.yaml" for root in (CONF, EXPERIMENTS) if group in ("experiment", "sweep")]
    return any("/model:" in path.read_text(encoding="utf-8") for path in paths if path.is_file())
