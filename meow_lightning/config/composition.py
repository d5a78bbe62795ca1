"""Options of a run composed from ``conf/`` outside the command line, for use as a library."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from meow_lightning.config.files import CONF, EXPERIMENTS
from meow_lightning.config.quoting import quote_value
from meow_lightning.errors import group_errors

if TYPE_CHECKING:
    from meow_lightning.config.schema import RunConfig

_EXPERIMENT = re.compile(r"/experiment: (\w+)")  # the experiment that a sweep file builds on
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
    """Add the groups that the options of the user's own models imply, where no word chooses one.

    ``model=own`` if the options name a model; ``inversion=local`` if they name one that writes inverted facts; else
    ``inversion=self`` if ``model=own`` has a base, which can write them.

    Args:
        words: Words of the command line.
    """
    base, target = (_provides(words, option) for option in ("model.base", "model.target"))
    own = (base or target) and not _chooses(words, "model")
    implied = ["model=own"] if own else []
    if not _chooses(words, "inversion") and not any(word.startswith("inversion.base_url=") for word in words):
        if _provides(words, "inversion.model"):
            implied.append("inversion=local")
        elif base and (own or "model=own" in words):
            implied.append("inversion=self")
    return [*words, *implied]


def _provides(words: Sequence[str], option: str) -> bool:
    values = [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]
    return any(value not in ("", "null", "released") for value in values)


def _chooses(words: Sequence[str], group: str) -> bool:
    """Whether a word chooses a group, by itself or by an experiment or sweep file."""
    return any(word.startswith(f"{group}=") or _file_chooses(word, group) for word in words)


def _file_chooses(word: str, chosen: str) -> bool:
    """Whether an experiment or sweep file chooses a group, by itself or by the experiment that it builds on."""
    group, _, name = word.partition("=")
    paths = [root / group / f"{name}.yaml" for root in (CONF, EXPERIMENTS) if group in ("experiment", "sweep")]
    texts = [path.read_text(encoding="utf-8") for path in paths if path.is_file()]
    further = [each for text in texts for each in _EXPERIMENT.findall(text)]
    return any(f"/{chosen}:" in text for text in texts) or any(
        _file_chooses(f"experiment={each}", chosen) for each in further
    )
