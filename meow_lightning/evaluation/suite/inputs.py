"""Validated prediction rows of all models, with the settings for computing metrics."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from meow_lightning.data.words import Words
from meow_lightning.errors import UserError, check_choice
from meow_lightning.evaluation.metrics import fluency, truth_ratio
from meow_lightning.evaluation.predictions import by_set
from meow_lightning.evaluation.protocols import open_unlearning_metrics
from meow_lightning.evaluation.protocols.registry import PROTOCOL_NAMES, ProtocolName
from meow_lightning.types import AnswerRow

ROLES = ("target", "retain", "unlearned")
SETS = ("forget", "retain", "real_authors", "world_facts", "holdout")
"""Reporting order of the sets; others follow."""

RowsBySet = dict[str, list[AnswerRow]]


@dataclass(frozen=True)
class Answers:
    """Prediction rows of all models in complete sets, with the settings for computing metrics.

    Attributes:
        sets: Rows by role, then by set, in order; models without rows are left out.
        mean: How the truth ratio averages wrong answers.
        absent: Reason why a model is missing, by role, if known.
        protocol: Evaluation protocol that defines the formulas.
        words: Word splitting for ROUGE.
    """

    sets: Mapping[str, RowsBySet]
    mean: truth_ratio.Mean
    absent: Mapping[str, str]
    protocol: ProtocolName
    words: Words

    @functools.cached_property
    def names(self) -> list[str]:
        """Sets with rows of any model, in reporting order."""
        names = {name for sets in self.sets.values() for name in sets}
        return [name for name in SETS if name in names] + sorted(names - set(SETS))

    @functools.cached_property
    def known(self) -> dict[str, fluency.Known]:
        """Known word bigrams for fluency, by role."""
        return {
            role: fluency.known_pairs(row for rows in sets.values() for row in rows) for role, sets in self.sets.items()
        }

    def log_ratio(self, row: AnswerRow) -> float:
        """``log R`` of one row, R its truth ratio."""
        if self.protocol == "open_unlearning":
            return open_unlearning_metrics.row_log_truth_ratio(row)
        return truth_ratio.row_log_truth_ratio(row, mean=self.mean)

    def missing_reason(self, role: str, name: str | None) -> str:
        """Explain why a model's answers to a set (``None``: to any set) are missing; empty if they are present."""
        if role not in self.sets:
            return self.absent.get(role, f"this run has no predictions of the {role} model")
        return "" if name is None or name in self.sets[role] else f"the {role} model has no predictions on set {name!r}"


def collect_answers(
    rows: Mapping[str, list[AnswerRow]], *, truth_ratio_mean: str, absent: Mapping[str, str], protocol: str,
    words: Words = "unicode",
) -> Answers:  # fmt: skip
    """Collect and validate the answers of all models.

    Args:
        rows: Prediction rows of all sets, by role; any role may be absent.
        truth_ratio_mean: ``geometric`` or ``arithmetic``.
        absent: Reason why a model is missing, by role.
        protocol: One of :data:`~meow_lightning.evaluation.protocols.registry.PROTOCOL_NAMES`.
        words: Word splitting for ROUGE; published evaluators recognise only a-z and 0-9.

    Raises:
        UserError: Unknown role or mean, or an incomplete set.
    """
    mean = truth_ratio.parse_mean(truth_ratio_mean)
    check_choice("protocol", protocol, PROTOCOL_NAMES)
    check_roles(rows)
    sets = {}
    for role, role_rows in rows.items():
        try:
            sets[role] = by_set(role_rows)
        except UserError as error:
            raise UserError(f"predictions of the {role} model: {error}") from error
    # a model without rows is reported like an absent one
    present = {role: role_sets for role, role_sets in sets.items() if role_sets}
    splitting: Words = words if protocol == "none" else "published"
    return Answers(sets=present, mean=mean, absent=absent, protocol=cast("ProtocolName", protocol), words=splitting)


def check_roles(by_role: Mapping[str, object]) -> None:
    """Check that every role is one of ``ROLES``.

    Args:
        by_role: Mapping keyed by role.

    Raises:
        UserError: Unknown role.
    """
    for role in sorted(by_role):
        check_choice("role", role, ROLES)
