"""The artifacts of a run, and those that a goal requires."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meow_lightning.data.examples import Dataset
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.errors import UserError, check_choice, invalid_option
from meow_lightning.stages import stages, up_to
from meow_lightning.stages.common.needs import EvaluationInputs, RunModels, Verified
from meow_lightning.store.artifact import Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The artifacts of one round of unlearning on inverted facts.

    Attributes:
        proposed: The teacher's replies.
        filtered: The inverted facts kept so far, those of earlier rounds first.
        candidate_scores: MEMO of the new inverted facts on the target model.
        baseline_scores: The same on the model of ``method.select.baseline``; ``None`` without one.
        unlearned: The target model after training on the selected ones.
        scores: MEMO of the true answers on that model, cut as the rounds measure it; ``None`` for a method that
            does not unlearn in rounds, whose model is scored as the target model is.
        verification: Windows of ``scores``, computed again; ``None`` if ``memo.verify`` is 0.
        predictions: That model's predictions on the forget set; ``None`` if no round follows.
    """

    proposed: Artifact
    filtered: Artifact
    candidate_scores: Artifact
    baseline_scores: Artifact | None
    unlearned: Artifact
    scores: Artifact | None
    verification: Artifact | None
    predictions: Artifact | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunGraph:
    """The artifacts of one run.

    Attributes:
        name: Readable name of the run.
        dataset: The facts of the run.
        probe: What the target model answers, for a dataset whose splits depend on it; else ``None``.
        probed: Whether it answered already; if not, the splits, and with them the graph, are upper bounds.
        streams: Builders of the streams that the run's method trains on.
        models: The models by role.
        rounds: The rounds of a method that trains on inverted facts, one for a method that does not repeat; empty
            for a method without inverted facts.
        evaluation: The results that the metrics are computed from.
        verifications: Windows of their scores, computed again; empty if ``memo.verify`` is 0.
        results: The metrics.
        report: The report, which needs all others.
    """

    name: str
    dataset: Dataset
    probe: Artifact | None
    probed: bool
    streams: Mapping[str, StreamBuilder]
    models: RunModels[Artifact]
    rounds: tuple[Round, ...]
    evaluation: EvaluationInputs[Artifact]
    verifications: Mapping[Verified, Artifact]
    results: Artifact
    report: Artifact

    @property
    def tag(self) -> str:
        """The run's name with the start of its key: the name of its files."""
        return f"{self.name}-{self.report.key[:6]}"

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The artifacts that a goal may select; those of earlier rounds that only feed the next one are left out."""
        repeated = [each for each in self.rounds if each.scores is not None]
        verified = [each.verification for each in repeated]
        steps = [(each.proposed, each.filtered, each.unlearned, each.scores) for each in repeated]
        sequence = self.evaluation.sequence
        candidates = [
            *((self.rounds[-1].proposed, self.rounds[-1].filtered) if self.rounds else ()),
            *(each for model in self.models.present for each in model.needs.values() if each.stage == "convert"),
            self.probe, *self.models.present, *self.translations, *self.evaluation.to_needs().values(),
            *self.verifications.values(), *verified, *(artifact for step in steps for artifact in step),
            *(each for served in (sequence.all if sequence else ()) for each in served.model.walk()),
            self.results, self.report,
        ]  # fmt: skip
        return tuple(each for each in candidates if each is not None)

    @property
    def translations(self) -> tuple[Artifact, ...]:
        """The questions that a language model translated for attacks."""
        return tuple(each for each in self.report.needs.values() if each.stage == "translate")

    def goal(self, name: str) -> list[Artifact]:
        """List the artifacts of one stage that depend on no later stage, each after its dependencies.

        Raises:
            UserError: The stage is unknown, or the run has no such stage.
        """
        known = stages()
        check_choice("goal", name, known)
        wanted = [name, *(each.name for each in known.values() if name in each.selected_with)]
        no_later = frozenset[str]().union(*map(up_to, wanted))

        def needs_no_later_stage(artifact: Artifact) -> bool:
            return known[name].repeats or all(each.stage in no_later for each in artifact.walk())

        required = required_artifacts(
            each for each in self.artifacts if each.stage in wanted and needs_no_later_stage(each)
        )
        if not required and known[name].absent:
            raise UserError(known[name].absent)
        if not required:
            present = [each for each in known if any(artifact.stage == each for artifact in self.artifacts)]
            raise invalid_option("goal", name, f"a stage of the run {self.name}: {', '.join(present)}")
        return required


def required_artifacts(wanted: Iterable[Artifact]) -> list[Artifact]:
    """List some artifacts with all their dependencies, each once and after its dependencies."""
    return list({each.key: each for artifact in wanted for each in artifact.walk()}.values())
