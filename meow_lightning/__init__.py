"""MEOW-lightning: unlearning facts from language models with MEOW, its measure MEMO and the methods beside it.

The names below are imported when they are first used, so that ``import meow_lightning`` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meow_lightning import integrations as integrations
    from meow_lightning import memo as memo
    from meow_lightning import methods as methods
    from meow_lightning.api.dataset import FactDataset as FactDataset
    from meow_lightning.api.dataset import load_dataset as load_dataset
    from meow_lightning.api.evaluate import evaluate as evaluate
    from meow_lightning.api.evaluation import Evaluation as Evaluation
    from meow_lightning.api.finetune import finetune as finetune
    from meow_lightning.api.gradients import AnswerCosines as AnswerCosines
    from meow_lightning.api.gradients import answer_cosines as answer_cosines
    from meow_lightning.api.invert import invert as invert
    from meow_lightning.api.run import Run as Run
    from meow_lightning.api.run import run as run
    from meow_lightning.api.unlearn import unlearn as unlearn
    from meow_lightning.errors import UserError as UserError
    from meow_lightning.models.language_model import LanguageModel as LanguageModel
    from meow_lightning.types import Fact as Fact
    from meow_lightning.types import InvertedFact as InvertedFact

_FOLDERS = ("integrations", "memo", "methods")
_MODULES = {
    "AnswerCosines": "api.gradients", "Evaluation": "api.evaluation", "Fact": "types", "FactDataset": "api.dataset",
    "InvertedFact": "types", "LanguageModel": "models.language_model", "Run": "api.run", "UserError": "errors",
    "answer_cosines": "api.gradients", "evaluate": "api.evaluate", "finetune": "api.finetune", "invert": "api.invert",
    "load_dataset": "api.dataset", "run": "api.run", "unlearn": "api.unlearn",
}  # fmt: skip

__all__ = [
    "AnswerCosines", "Evaluation", "Fact", "FactDataset", "InvertedFact", "LanguageModel", "Run", "UserError",
    "answer_cosines", "evaluate", "finetune", "integrations", "invert", "load_dataset", "memo", "methods", "run",
    "unlearn",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a name on first use."""
    if name in _FOLDERS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """List the names that are imported on first use, and those of the module."""
    return sorted({*globals(), *__all__})
