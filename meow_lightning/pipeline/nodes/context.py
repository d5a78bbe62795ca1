"""Context of every node of the graph: a run's options, the components they name, digests of the dataset's content."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from meow_lightning.config.instantiate import instantiate
from meow_lightning.config.precision import weights_dtype
from meow_lightning.config.recipes import check_numbers, value_for_model
from meow_lightning.config.schema import Inversion
from meow_lightning.config.validation import check_call, check_measure, check_types
from meow_lightning.data.encoding import digest_of, fingerprint
from meow_lightning.data.subset import LimitedDataset
from meow_lightning.errors import UserError
from meow_lightning.inversion.base import Writer
from meow_lightning.memo.measure import Kind, Measure, Text
from meow_lightning.methods.base import BaseMethod
from meow_lightning.pipeline.nodes.model_roles import Roles, check_model
from meow_lightning.pipeline.versions import used_versions
from meow_lightning.stages import stage
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Dataset, Fact

PREDICTED_FIELDS = ("id", "question", "answer", "paraphrase", "perturbed", "value")  # of a fact, read by predict
TRAINED_FIELDS = ("question", "answer", "phrasings")  # of a fact, read by training
KEPT_FIELDS = ("question", "answer", "value", "alternatives", "phrasings")  # of a kept fact, read by rules and filters
# Arguments of a writer that runs a model itself, known only at run time.
RUNTIME_ARGUMENTS = (
    "folder",
    "device",
    "adaptive_batch_size",
)


@lru_cache(maxsize=8)
def _dataset(node: str, allow: tuple[str, ...], limit: int | None) -> tuple[Dataset, str]:
    full = instantiate(json.loads(node), allow=allow)
    dataset: Dataset = full if limit is None else LimitedDataset(dataset=full, limit=limit)
    return dataset, fingerprint(dataset)


@lru_cache(maxsize=64)
def _stream_digest(node: str, allow: tuple[str, ...], limit: int | None, rows: int, seed: int) -> str:
    return digest_of(_dataset(node, allow, limit)[0].pretraining_examples(rows, seed), TRAINED_FIELDS)


def _dataset_key(options: Mapping[str, Any]) -> tuple[str, tuple[str, ...], int | None]:
    return json.dumps(options["dataset"], sort_keys=True), tuple(options["trusted_packages"]), options["limit"]


def dataset_of(options: Mapping[str, Any]) -> tuple[Dataset, str]:
    """Read the dataset of some options, cut to ``limit``, and the digest of its content; read once per process."""
    return _dataset(*_dataset_key(options))


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
    """The checked options of a run, and the components that they name.

    Attributes:
        options: Resolved options.
        dataset: The facts.
        method: The method.
        measure: The measure of memorization that ``memo`` names.
        roles: Models that are provided.
        writer: The class of the source of inverted facts; ``None`` for a method without inverted facts.
        repetition: How the method unlearns in rounds; ``None`` for a method that does not.
        inputs: Runtime inputs of every artifact, not part of its key.
    """

    options: Mapping[str, Any]
    dataset: Dataset
    method: BaseMethod
    measure: Measure
    roles: Roles
    writer: type[Writer] | None
    repetition: Repetition | None
    inputs: Mapping[str, Any]

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> BuildContext:
        """Check the options of a run and load the components that they name.

        Raises:
            UserError: An option is invalid.
        """
        allow = list(options["trusted_packages"])
        check_call("dataset", options["dataset"], allow=allow)
        check_call("method", options["method"], allow=allow)
        method: BaseMethod = instantiate(options["method"], allow=allow)
        check_model(options["model"])
        measure = check_measure(options["memo"], allow=allow)
        dataset, content = dataset_of(options)
        inputs = {
            "dataset": options["dataset"], "content": content, "limit": options["limit"], "allow": allow,
            "memo": options["memo"], "private": not dataset.public,
        }  # fmt: skip
        context = cls(
            options=options, dataset=dataset, method=method, measure=measure, roles=Roles(options),
            writer=_writer(options["inversion"], allow) if "inverted" in method.streams else None,
            repetition=_repetition(options, method), inputs=inputs,
        )  # fmt: skip
        if context.retain_predictions is not None:
            inputs["retain_predictions"] = context.retain_predictions
        return context

    @property
    def method_name(self) -> str:
        """Name of the method's configuration."""
        return str(self.options["method"]["name"])

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return int(self.options["seed"])

    @property
    def protocol(self) -> str:
        """Evaluation protocol of the run's metrics."""
        return str(self.options["evaluation"]["protocol"])

    @property
    def selection_fraction(self) -> float:
        """Share of every evaluation set that is held out to select a checkpoint."""
        return float(self.options["evaluation"]["selection_fraction"])

    @property
    def retain_predictions(self) -> str | None:
        """Path of the log whose predictions replace the retain model's; ``None`` for none."""
        return self.roles.retain_predictions

    @property
    def chooses_checkpoint(self) -> bool:
        """Whether unlearning keeps its best epoch rather than its last."""
        return bool(self.options["optim"]["checkpoint"] == "best")

    @property
    def inference_settings(self) -> dict[str, Any]:
        """Keyed settings of every stage that runs a model."""
        model = self.options["model"]
        return {
            "prompt": model["prompt"], "attention": model["attention"], "dtype": weights_dtype(model["precision"]),
        }  # fmt: skip

    @property
    def training_settings(self) -> dict[str, Any]:
        """Keyed settings of every stage that trains a model."""
        model, lora = self.options["model"], self.options["model"]["lora"]
        return {
            "prompt": model["prompt"], "attention": model["attention"], "precision": model["precision"],
            "lora": None if lora["rank"] is None else lora,
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
        return _stream_digest(*_dataset_key(self.options), rows, seed)

    def evaluation_digests(self) -> dict[str, str]:
        """Digest the evaluation sets, by name."""
        return {name: digest_of(facts, PREDICTED_FIELDS) for name, facts in self.dataset.evaluation().items()}

    def check_windows(
        self, kind: Kind, answers: Callable[[Fact], Sequence[str]], *, memo: Mapping[str, Any] | None = None
    ) -> None:
        """Check that a measure can cut some answers of every fact to forget.

        Args:
            kind: Kind of the answers.
            answers: Returns the answers of a fact.
            memo: Configuration of the measure; ``None`` for the run's own.

        Raises:
            UserError: It cannot cut one of them.
        """
        measure = self.measure if memo is None else check_measure(memo, allow=self.inputs["allow"])
        for fact in self.dataset.facts("forget") if not measure.needs_codec else ():
            for position, answer in enumerate(answers(fact)):
                measure.check(Text(fact.id, kind, position, fact.question, answer), None)


def _writer(node: Mapping[str, Any], allow: Sequence[str]) -> type[Writer]:
    """Check the options of a source of inverted facts, including the files that it reads."""
    check_types("inversion", {key: node[key] for key in Inversion.__annotations__ if key in node}, Inversion)
    writer: type[Writer] = check_call("inversion", node, allow=allow, **dict.fromkeys(RUNTIME_ARGUMENTS))
    instantiate(node, allow=allow, **(dict.fromkeys(RUNTIME_ARGUMENTS) if writer.runs_locally else {}))
    return writer


def _repetition(options: Mapping[str, Any], method: BaseMethod) -> Repetition | None:
    """Read ``method.rounds``."""
    node = options["method"].get("rounds")
    if node is None:
        return None
    if "inverted" not in method.streams:
        raise UserError(
            f"method.rounds needs inverted facts, but method={options['method']['name']} trains on none; leave it out"
        )
    check_numbers(node["memorized_above"], "method.rounds.memorized_above", float)
    threshold = value_for_model(node["memorized_above"], "method.rounds.memorized_above", options["model"]["name"])
    return Repetition(
        count=node["count"], memorized_above=threshold, cut_unit=node["cut_unit"], requery=node["requery"],
        candidates=node["candidates"], k=node["k"], max_requests=node["max_requests"],
    )  # fmt: skip
