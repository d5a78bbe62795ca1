"""Context of every node of the graph: a run's options, the components they name, digests of the dataset's content."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from meow_lightning.config.instantiate import component_class, instantiate
from meow_lightning.config.options import RUNTIME_ARGUMENTS
from meow_lightning.config.precision import weights_dtype
from meow_lightning.config.recipes import value_for_model
from meow_lightning.config.schema import MemoConfig, RunConfig, Select
from meow_lightning.data.encoding import TRAINED_FIELDS, digest_of, fingerprint
from meow_lightning.data.examples import Dataset, Example
from meow_lightning.data.probed import is_probed
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.data.streams.configured import refusals_of
from meow_lightning.data.streams.resolve import stream_builders
from meow_lightning.data.subset import LimitedDataset
from meow_lightning.errors import UserError
from meow_lightning.inversion.base import Writer
from meow_lightning.memo.measure import Kind, Measure, Text
from meow_lightning.methods.base import BaseMethod
from meow_lightning.pipeline.nodes.model_roles import Roles
from meow_lightning.pipeline.nodes.run_attack import RunAttack, run_attacks
from meow_lightning.pipeline.versions import used_versions
from meow_lightning.stages import stage
from meow_lightning.stages.common.prompts import PROMPT_ATTACK
from meow_lightning.store.artifact import Artifact

# Attributes of a fact that predict reads.
PREDICTED_FIELDS = ("id", "question", "answer", "paraphrase", "perturbed", "value", "values")
UNLEARNED = "unlearned"
KEPT_FIELDS = ("question", "answer", "value", "alternatives", "phrasings")  # of a kept fact, read by rules and filters


@lru_cache(maxsize=8)
def _dataset(node: str, allow: tuple[str, ...], limit: int | None) -> tuple[Dataset, str]:
    full = instantiate(json.loads(node), allow=allow)
    dataset: Dataset = full if limit is None else LimitedDataset(dataset=full, limit=limit)
    return dataset, fingerprint(dataset)


@lru_cache(maxsize=64)
def _stream_digest(node: str, allow: tuple[str, ...], limit: int | None, rows: int, seed: int) -> str:
    return digest_of(_dataset(node, allow, limit)[0].pretraining_examples(rows, seed), TRAINED_FIELDS)


def _dataset_key(config: RunConfig) -> tuple[str, tuple[str, ...], int | None]:
    return json.dumps(config.dataset.keyed, sort_keys=True), tuple(config.trusted_packages), config.limit


def dataset_of(config: RunConfig) -> tuple[Dataset, str]:
    """Read the dataset of a run, cut to ``limit``, and the digest of its content; read once per process."""
    return _dataset(*_dataset_key(config))


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """How a method unlearns in rounds: ``method.rounds``, resolved for the run's model.

    Attributes:
        count: Maximum number of rounds.
        memorized_above: Facts with a score above this threshold are still memorized.
        cut_unit: Unit that the rounds cut answers by; ``None`` to cut them as ``memo`` does.
        requery: Facts to request again in later rounds: ``memorized`` or ``all``.
        candidates: Candidates per fact and round; ``None`` for ``inversion.candidates``.
        k: Number of new candidates per fact that a later round trains on.
        max_requests: Maximum number of requests in all rounds; ``None`` for no limit.
    """

    count: int
    memorized_above: float
    cut_unit: str | None
    requery: str
    candidates: int | None
    k: int
    max_requests: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildContext:
    """The options of a run, and the components that they name.

    Attributes:
        config: The options.
        dataset: The facts.
        method: The method.
        measure: The measure of memorization that ``memo`` names.
        roles: Models that are provided.
        writer: The class of the source of inverted facts; ``None`` for a method without inverted facts.
        repetition: How the method unlearns in rounds; ``None`` for a method that does not.
        attacks: The attacks on the finished models, by name.
        inputs: Runtime inputs of every artifact, not part of its key.
        prompt_attack: Keyed settings of the attack on prompts under which models run; ``None`` for none.
        prompt_needs: What a stage under that attack reads besides the model.
        label: Label of the model after unlearning, which those of the results before it begin with.
    """

    config: RunConfig
    dataset: Dataset
    method: BaseMethod
    measure: Measure
    roles: Roles
    writer: type[Writer] | None
    repetition: Repetition | None
    attacks: Mapping[str, RunAttack]
    inputs: Mapping[str, Any]
    prompt_attack: Mapping[str, Any] | None = None
    prompt_needs: Mapping[str, Artifact] = field(default_factory=dict)
    label: str = UNLEARNED

    @classmethod
    def of(cls, config: RunConfig, *, probed: str | None = None) -> BuildContext:
        """Load the components that the options of a run name.

        Args:
            config: The options.
            probed: File of the target model's answers, for a dataset that depends on them; ``None`` before the model
                was asked.

        Raises:
            UserError: A component rejects its arguments.
        """
        allow, config = config.trusted_packages, _with_answers(config, probed)
        method: BaseMethod = config.method.instantiate(allow=allow)
        measure = config.memo.instantiate(allow=allow)
        dataset, content = dataset_of(config)
        inputs = {
            "dataset": config.dataset.keyed, "dataset_name": config.dataset.name, "content": content,
            "limit": config.limit, "allow": list(allow),
            "memo": {"name": config.memo.name, **config.memo.keyed}, "private": not dataset.public,
        }  # fmt: skip
        context = cls(
            config=config, dataset=dataset, method=method, measure=measure, roles=Roles(config),
            writer=_writer(config) if "inverted" in method.streams else None,
            repetition=_repetition(config, method), attacks=run_attacks(config, dataset), inputs=inputs,
        )  # fmt: skip
        if context.retain_predictions is not None:
            inputs["retain_predictions"] = context.retain_predictions
        return context

    @property
    def prefix(self) -> str:
        """Beginning of the labels of results that precede the model after unlearning."""
        return "" if self.label == UNLEARNED else f"{self.label} "

    @property
    def method_name(self) -> str:
        """Name of the method's configuration."""
        return self.config.method.name

    @property
    def streams(self) -> dict[str, StreamBuilder]:
        """Builders of the streams that the method trains on.

        Raises:
            UserError: The file of ``method.refusals`` cannot be used.
        """
        return stream_builders(self.method, refusals=refusals_of(self.config))

    @property
    def select(self) -> Select:
        """How the method selects inverted facts.

        Raises:
            UserError: It trains on inverted facts, but its configuration selects none.
        """
        if self.config.method.select is None:
            name = self.method_name
            raise UserError(f"method={name} trains on inverted facts, so conf/method/{name}.yaml needs `select`")
        return self.config.method.select

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.config.seed

    @property
    def protocol(self) -> str:
        """Evaluation protocol of the run's metrics."""
        return self.config.evaluation.protocol

    @property
    def selection_fraction(self) -> float:
        """Share of every evaluation set that is held out to select a checkpoint."""
        return self.config.evaluation.selection_fraction

    @property
    def retain_predictions(self) -> str | None:
        """Path of the log whose predictions replace the retain model's; ``None`` for none."""
        return self.roles.retain_predictions

    @property
    def chooses_checkpoint(self) -> bool:
        """Whether unlearning keeps its best epoch rather than its last."""
        return self.config.optim.checkpoint == "best"

    @property
    def inference_settings(self) -> dict[str, Any]:
        """Keyed settings of every stage that runs a model."""
        model = self.config.model
        settings = {
            "prompt": model.prompt.plain(), "attention": model.attention, "dtype": weights_dtype(model.precision),
        }  # fmt: skip
        return settings if self.prompt_attack is None else {**settings, PROMPT_ATTACK: self.prompt_attack}

    @property
    def training_settings(self) -> dict[str, Any]:
        """Keyed settings of every stage that trains a model."""
        model = self.config.model
        return {
            "prompt": model.prompt.plain(), "attention": model.attention, "precision": model.precision,
            "lora": model.lora.matrices,
        }  # fmt: skip

    def artifact(
        self, stage_name: str, label: str, settings: Mapping[str, Any], needs: Mapping[str, Artifact], **inputs: Any
    ) -> Artifact:
        """Describe one result of the run."""
        own = stage(stage_name)
        return Artifact(
            stage=own.name, label=label, version=own.version, settings=settings, needs=needs,
            inputs={**self.inputs, **inputs},
            components=used_versions(own, settings, needs, allow=self.inputs["allow"]),
        )  # fmt: skip

    def facts_digest(self, split: str, *fields: str) -> str:
        """Digest the given fields of every fact of a split; without fields, all of them."""
        return digest_of(self.dataset.facts(split), fields)

    def stream_digest(self, rows: int, seed: int) -> str:
        """Digest some rows of the dataset's pretraining stream; computed once for all runs of a sweep."""
        return _stream_digest(*_dataset_key(self.config), rows, seed)

    def evaluation_digests(self) -> dict[str, str]:
        """Digest the evaluation sets, by name."""
        return {name: digest_of(facts, PREDICTED_FIELDS) for name, facts in self.dataset.evaluation().items()}

    def check_windows(
        self, kind: Kind, answers: Callable[[Example], Sequence[str]], *, memo: MemoConfig | None = None
    ) -> None:
        """Check that a measure can cut some answers of every fact to forget.

        Args:
            kind: Kind of the answers.
            answers: Returns the answers of a fact.
            memo: Configuration of the measure; ``None`` for the run's own.

        Raises:
            UserError: It cannot cut one of them.
        """
        measure = self.measure if memo is None else memo.instantiate(allow=self.config.trusted_packages)
        for fact in self.dataset.facts("forget") if not measure.needs_codec else ():
            for position, answer in enumerate(answers(fact)):
                measure.check(Text(fact.id, kind, position, fact.question, answer, fact.segments.raw), None)


def _with_answers(config: RunConfig, probed: str | None) -> RunConfig:
    """Give the answers of the target model to a dataset that depends on them; other datasets stay as they are."""
    dataset = config.dataset
    if not is_probed(component_class(dataset.keyed, allow=config.trusted_packages)):
        return config
    answered = dataset.model_copy(update={"arguments": {**dataset.arguments, "probed": probed}})
    return config.model_copy(update={"dataset": answered})


def _writer(config: RunConfig) -> type[Writer]:
    """Check the source of inverted facts, including the files that it reads."""
    inversion, allow = config.inversion, config.trusted_packages
    writer: type[Writer] = component_class(inversion.keyed, allow=allow)
    inversion.instantiate(allow=allow, **(dict.fromkeys(RUNTIME_ARGUMENTS) if writer.runs_locally else {}))
    return writer


def _repetition(config: RunConfig, method: BaseMethod) -> Repetition | None:
    """Resolve ``method.rounds`` for the run's model."""
    rounds = config.method.rounds
    if rounds is None:
        return None
    if "inverted" not in method.streams:
        raise UserError(
            f"method.rounds needs inverted facts, but method={config.method.name} trains on none; leave it out"
        )
    threshold = value_for_model(rounds.memorized_above, "method.rounds.memorized_above", config.model.name)
    return Repetition(
        count=rounds.count, memorized_above=threshold, cut_unit=rounds.cut_unit, requery=rounds.requery,
        candidates=rounds.candidates, k=rounds.k, max_requests=rounds.max_requests,
    )  # fmt: skip
