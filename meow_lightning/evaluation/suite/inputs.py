"""What every model answered, checked, and how numbers are to be made of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from meow_lightning.data.words import Words
from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics import fluency, truth_ratio
from meow_lightning.evaluation.predictions import by_set
from meow_lightning.evaluation.protocols import open_unlearning_metrics
from meow_lightning.evaluation.protocols.registry import PROTOCOL_NAMES, ProtocolName
from meow_lightning.types import AnswerRow

ROLES = ("target", "retain", "unlearned")
SETS = ("forget", "retain", "real_authors", "world_facts", "holdout")
"""Reporting order; sets by other names follow."""

RowsBySet = dict[str, list[AnswerRow]]


@dataclass(frozen=True)
class Answers:
    """What every model answered, in complete sets, and how numbers are to be made of it.

    Attributes:
        sets: Rows by role, then by set, in order; models that answered nothing are left out.
        mean: How the truth ratio averages wrong answers.
        absent: Why there is no such model, by role, where the reason is known.
        protocol: Whose arithmetic.
        words: How ROUGE finds words.
    """

    sets: Mapping[str, RowsBySet]
    mean: truth_ratio.Mean
    absent: Mapping[str, str]
    protocol: ProtocolName
    words: Words

    @functools.cached_property
    def names(self) -> list[str]:
        """The sets that any model answered, in reporting order."""
        names = {name for sets in self.sets.values() for name in sets}
        return [name for name in SETS if name in names] + sorted(names - set(SETS))

    @functools.cached_property
    def known(self) -> dict[str, fluency.Known]:
        """The word pairs that fluency counts as language, by role."""
        return {
            role: fluency.known_pairs(row for rows in sets.values() for row in rows) for role, sets in self.sets.items()
        }

    def log_ratio(self, row: AnswerRow) -> float:
        """``log R`` of one row, R its truth ratio."""
        if self.protocol == "open_unlearning":
            return open_unlearning_metrics.row_log_truth_ratio(row)
        return truth_ratio.row_log_truth_ratio(row, mean=self.mean)

    def missing_reason(self, role: str, name: str | None) -> str:
        """Why a model's answers to a set (``None``: to any) are not there; empty if they are."""
        if role not in self.sets:
            return self.absent.get(role, f"there are no answers of the {role} model")
        return "" if name is None or name in self.sets[role] else f"the {role} model did not answer set {name!r}"


def collect_answers(
    rows: Mapping[str, list[AnswerRow]], *, truth_ratio_mean: str, absent: Mapping[str, str], protocol: str,
    words: Words = "unicode",
) -> Answers:  # fmt: skip
    """The answers of all models, checked.

    Args:
        rows: Answered questions of all sets, by role; any role may be absent.
        truth_ratio_mean: ``geometric`` or ``arithmetic``.
        absent: Why there is no such model, by role.
        protocol: Whose arithmetic, one of :data:`~meow_lightning.evaluation.protocols.registry.PROTOCOL_NAMES`.
        words: How ROUGE finds words; published evaluators know a-z and 0-9 alone.

    Raises:
        UserError: A role or mean does not exist, or a set is incomplete.
    """
    mean = truth_ratio.parse_mean(truth_ratio_mean)
    if protocol not in PROTOCOL_NAMES:
        raise UserError(f"protocol={protocol!r} is invalid: expected {', '.join(PROTOCOL_NAMES)}")
    check_roles(rows)
    sets = {}
    for role, answered in rows.items():
        try:
            sets[role] = by_set(answered)
        except UserError as error:
            raise UserError(f"the {role} model's answers: {error}") from error
    # a model that answered nothing is reported like one that was not asked
    answering = {role: each for role, each in sets.items() if each}
    known: Words = words if protocol == "none" else "published"
    return Answers(sets=answering, mean=mean, absent=absent, protocol=protocol, words=known)


def check_roles(by_role: Mapping[str, object]) -> None:
    """Nothing, if every role is one of ``ROLES``.

    Args:
        by_role: Anything by role.

    Raises:
        UserError: One is not.
    """
    unknown = sorted(set(by_role) - set(ROLES))
    if unknown:
        raise UserError(f"role {unknown[0]!r} was given; allowed are {', '.join(ROLES)}: rename it to one of these")
