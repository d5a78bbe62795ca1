"""MEMO: how strongly a model has memorised a text, measured by its continuations of the text's prefixes.

``score``, ``load_measure`` and ``Scores`` are imported when they are first used, since reading the settings of a run
must not import torch. ``measure`` and ``select`` are modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meow_lightning.memo.scoring import Scores as Scores
    from meow_lightning.memo.scoring import load_measure as load_measure
    from meow_lightning.memo.scoring import score as score

__all__ = ["Scores", "load_measure", "score"]


def __getattr__(name: str) -> Any:
    """Import an exported name on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from meow_lightning.memo import scoring

    return getattr(scoring, name)
