"""What published evaluators compute differently; apart from their predictions, which do not depend on it."""

from __future__ import annotations

from collections.abc import Mapping

from meow_lightning.evaluation.answers import Formulas
from meow_lightning.evaluation.protocols import open_unlearning_metrics

_FORMULAS: Mapping[str, Formulas] = {"open_unlearning": open_unlearning_metrics.FORMULAS}


def formulas(protocol: str) -> Formulas:
    """Look up the formulas of a protocol; ours where it has none of its own.

    Args:
        protocol: One of :data:`~meow_lightning.evaluation.protocols.registry.PROTOCOL_NAMES`.
    """
    return _FORMULAS.get(protocol, Formulas())
