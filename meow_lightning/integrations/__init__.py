"""Our methods in the trainers of other libraries; names are imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meow_lightning.integrations.transformers_trainer import UnlearningTrainer as UnlearningTrainer

__all__ = ["UnlearningTrainer"]


def __getattr__(name: str) -> Any:
    """Import an exported name on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from meow_lightning.integrations import transformers_trainer

    return getattr(transformers_trainer, name)
