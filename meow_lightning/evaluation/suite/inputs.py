"""Collect and validate the answers of all models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from meow_lightning.data.examples import Example
from meow_lightning.data.words import Words
from meow_lightning.errors import UserError, check_choice
from meow_lightning.evaluation.answers import Answers, MetricSettings, RowsBySet, Scores
from meow_lightning.evaluation.metrics import optional_metrics
from meow_lightning.evaluation.metrics.truth_ratio import parse_mean
from meow_lightning.evaluation.predictions import by_set
from meow_lightning.evaluation.protocols.formulas import formulas
from meow_lightning.evaluation.protocols.registry import PROTOCOL_NAMES
from meow_lightning.evaluation.sets import BENCHMARK, set_infos
from meow_lightning.types import ROLES, AnswerRow, InvertedFact, SetInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class SideInputs:
    """What metrics read besides rows and MEMO scores.

    Attributes:
        public: Answers of retained facts that were not evaluated; they never count as leaks.
        retain_aucs: AUCs of membership attacks on the retain model, by name of the attack, from a log that replaces its
            predictions; of the same protocol.
        extra_metrics: Names of the optional metrics to compute.
        examples: The evaluated examples by id, for metrics that compare with texts which rows do not hold.
        inverted: The inverted facts of the run; empty for a method without.
    """

    public: Sequence[str] = ()
    inverted: Sequence[InvertedFact] = ()
    retain_aucs: Mapping[str, float] = field(default_factory=dict)
    extra_metrics: tuple[str, ...] = ()
    examples: Mapping[str, Example] = field(default_factory=dict)


def metric_settings(
    *, truth_ratio_mean: str, protocol: str, words: Words = "unicode", retain_aucs: Mapping[str, float] | None = None,
    extra: Sequence[str] = (), partial: Sequence[str] = (),
) -> MetricSettings:  # fmt: skip
    """Collect and validate how numbers are computed.

    Args:
        truth_ratio_mean: ``geometric`` or ``arithmetic``.
        protocol: One of :data:`~meow_lightning.evaluation.protocols.registry.PROTOCOL_NAMES`.
        words: How ROUGE splits words; published evaluators recognise only a-z and 0-9.
        retain_aucs: AUCs of attacks on the retain model from a published log, by name of the attack.
        extra: Names of the optional metrics to compute.
        partial: Names of the sets of which some questions have no wrong answers.

    Raises:
        UserError: Unknown mean, protocol or metric.
    """
    for name in extra:
        check_choice("evaluation.extra_metrics", name, optional_metrics())
    return MetricSettings(
        truth_ratio_mean=parse_mean(truth_ratio_mean),
        formulas=formulas(check_choice("protocol", protocol, PROTOCOL_NAMES)),
        words=words if protocol == "none" else "published",
        retain_aucs=retain_aucs or {},
        extra=tuple(extra),
        partial=tuple(partial),
    )


def collect_answers(
    rows: Mapping[str, list[AnswerRow]], memo: Mapping[str, Scores], settings: MetricSettings, *,
    absent: Mapping[str, str], side_inputs: SideInputs, benchmark: Sequence[SetInfo] = BENCHMARK,
) -> Answers:  # fmt: skip
    """Collect and validate the answers of all models.

    Args:
        rows: Prediction rows of all sets, by role; any role may be absent.
        memo: MEMO scores by role, in any grouping; any role may be absent.
        settings: How numbers are computed.
        absent: Reason why a model is missing, by role.
        side_inputs: What metrics read besides.
        benchmark: The evaluation sets, in reporting order; sets with rows that it does not name follow.

    Raises:
        UserError: Unknown role, or an incomplete set.
    """
    for role in sorted({*rows, *memo}):
        check_choice("role", role, ROLES)
    sets: dict[str, RowsBySet] = {}
    for role, role_rows in rows.items():
        try:
            sets[role] = by_set(role_rows)
        except UserError as error:
            raise UserError(f"predictions of the {role} model: {error}") from error
    others = {name for role_sets in sets.values() for name in role_sets} - {info.name for info in benchmark}
    return Answers(
        # a model without rows is reported like an absent one
        sets={role: role_sets for role, role_sets in sets.items() if role_sets},
        benchmark=(*benchmark, *set_infos(others)), settings=settings, absent=absent, memo=memo,
        public=side_inputs.public, inverted=side_inputs.inverted,
        examples=side_inputs.examples,
    )  # fmt: skip
