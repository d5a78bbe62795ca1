"""The options of a run as one tree, built once from the composed configuration. Their values are in ``conf/``."""

from __future__ import annotations

import dataclasses
import functools
import operator
import typing
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from omegaconf import MISSING
from pydantic import Field, ValidationError, field_validator

from meow_lightning.config.attack_options import AttackConfig
from meow_lightning.config.evaluation_options import Ability, Evaluation
from meow_lightning.config.mistakes import Mistake, alternatives, missing, value_mistakes
from meow_lightning.config.model_options import FileName, Lora, Model
from meow_lightning.config.options import RUNTIME_ARGUMENTS, ComponentConfig, Options, consistency
from meow_lightning.config.probe_options import Probe
from meow_lightning.config.protocol_options import Protocol
from meow_lightning.config.ranges import (
    Count,
    CountOrZero,
    Epochs,
    LearningRate,
    Range,
    Retries,
    Seed,
    Threshold,
)
from meow_lightning.config.runtime import Runtime
from meow_lightning.config.training_options import Callbacks, Optim, Trainer
from meow_lightning.errors import UserError, invalid_option
from meow_lightning.store.folders import NAME_BYTES
from meow_lightning.store.store import Cache

RESERVED_BYTES = 35  # of a file name, for the parts before and after the run's name


class DatasetConfig(ComponentConfig):
    """``dataset``: the facts to forget and the facts to keep."""

    provided: ClassVar[tuple[str, ...]] = ("probed",)  # what the target model answered, for a dataset that asks it

    name: FileName
    """Name of the dataset."""

    @property
    def split(self) -> str:
        """The split of the dataset to forget; empty for a dataset without splits."""
        return str(self.arguments.get("split", ""))

    @field_validator("arguments")
    @classmethod
    def _check_split(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """Check that the split can be part of file names."""
        if found := list(value_mistakes(arguments.get("split") or "all", FileName, path=("split",))):
            raise ValidationError.from_exception_data(cls.__name__, [each.details() for each in found])
        return arguments


class Select(Options):
    """``method.select``: how many inverted facts are selected per fact, and how."""

    k: Count
    """Inverted facts per fact."""
    strategy: Literal["largest", "smallest", "random"]
    """Order of selection by MEMO."""
    rows: Literal["selected", "official"]
    """Rows of the selected facts that are trained."""
    baseline: Literal["none", "base", "retain"]
    """Model that never saw the facts, whose MEMO is subtracted from the target's before the selection."""

    @property
    def keyed(self) -> dict[str, Any]:
        """The options that results depend on: a baseline only where one is chosen."""
        return {name: value for name, value in self.plain().items() if (name, value) != ("baseline", "none")}

    @classmethod
    def missing_option(cls, name: str, data: Mapping[str, Any]) -> Mistake | None:
        """Word the mistake; a single key of a selection comes from an override meant for another method."""
        absent = [key for key in cls.model_fields if key not in data]
        if len(absent) == 1:
            return missing(name)
        hint = (
            "; this method selects no inverted facts, so set no option of method.select; without it, "
            "experiment=published_memo is memo=official"
        )
        return missing(name, hint) if name == absent[0] else None


class Rounds(Options):
    """``method.rounds``: repeated inversion and unlearning of facts that are still memorized."""

    count: Annotated[int, Range(1, 1000)]
    """Maximum number of rounds."""
    memorized_above: Threshold | dict[str, Threshold]
    """MEMO of a true answer above which it is still memorized; a table by model, or one number."""
    cut_unit: Literal["characters", "words", "tokens"] | None
    """Unit that the rounds cut answers by; null to cut them as ``memo`` does."""
    requery: Literal["memorized", "all"]
    """Facts to request again in later rounds."""
    candidates: Count | None
    """Candidates per fact and round; null for ``inversion.candidates``."""
    k: Count
    """New candidates per fact that a later round trains on."""
    max_requests: Count | None
    """Maximum number of requests in all rounds; null for no limit."""


class MethodConfig(ComponentConfig):
    """``method``: the unlearning method, and its recipe by model."""

    name: FileName
    """Name of the method."""
    select: Select | None = None
    rounds: Rounds | None = None
    refusals: str | None = None
    """File of refusals or template answers, one per line, for methods that train on them; null for our own."""
    redraw_refusals: bool = False
    """Whether each pass over the questions draws their refusals anew, as TOFU's code does."""
    anchor: Literal["start", "retain"] = "start"
    """Frozen model that the loss compares with: ``start`` (where unlearning starts) or ``retain``."""
    lora: Lora | None = None
    """Adapters that unlearning trains if ``model.lora`` sets none; null to train all weights."""
    lr: LearningRate | dict[str, LearningRate | None] | None = None
    """Peak learning rate: a table by model with a default, or one number."""
    epochs: Epochs | dict[str, Epochs | None] | None = None
    """Passes over the first stream, likewise."""
    global_batch_size: Count | dict[str, Count | None] | None = None
    """Rows of the first stream per step, likewise."""


class PromptTemplate(Options):
    """``inversion.prompt``: the texts of a file in ``conf/inversion/prompt``, chosen with ``inversion/prompt=``."""

    version: Count
    """Version of the texts."""
    system: str
    """Instructions to the language model."""
    user: str
    """Message with the question and its answer."""
    context: str
    """Text prepended if ``inversion.context`` is set."""
    previous_answers: str
    """Text appended if earlier answers exist."""
    model_answer: str
    """Text appended if the unlearned model's answer is known."""


class InversionConfig(ComponentConfig):
    """``inversion``: the source of inverted facts."""

    provided: ClassVar[tuple[str, ...]] = RUNTIME_ARGUMENTS
    passed: ClassVar[tuple[str, ...]] = ("prompt",)

    max_retries_per_fact: Retries
    """Repeated requests for facts with too few inverted facts."""
    on_shortage: Literal["error", "few", "warn", "rules"]
    """What happens if facts keep fewer than ``method.select.k``."""
    prompt: PromptTemplate | None = None

    @property
    def candidates(self) -> int | None:
        """Inverted facts requested per fact; ``None`` for a source without a number."""
        return self.arguments.get("candidates")


class MemoConfig(ComponentConfig):
    """``memo``: the measure of memorization."""

    provided: ClassVar[tuple[str, ...]] = ("name",)

    verify: CountOrZero
    """Windows per score that are recomputed one by one and compared; 0 for none."""

    def instantiate(self, *, allow: typing.Iterable[str], **extra: Any) -> Any:
        """Build the measure, which bears the name of the choice."""
        return super().instantiate(allow=allow, name=self.name, **extra)


class Logger(Options):
    """``logger``: where curves and metrics are logged."""

    name: Literal["wandb", "csv", "none"]
    """Name of the logger."""
    texts: bool | None = None
    """Whether texts are logged; null for public datasets only."""
    project: str = ""
    """W&B project."""
    mode: Literal["auto", "online", "offline"] = "auto"
    """Whether curves are uploaded."""
    group: str | None = None
    """W&B group; null for the sweep, else model, dataset and split."""
    log_model: bool = False
    """Whether the unlearned model is logged to W&B."""


class RunConfig(Options):
    """All options of one run."""

    seed: Seed  # checked before the groups that interpolate it, so that a message names `seed`
    """Seed from which all random choices derive."""
    dataset: DatasetConfig
    model: Model
    method: MethodConfig
    inversion: InversionConfig
    memo: MemoConfig
    optim: Optim
    evaluation: Evaluation
    ability: Ability
    protocol: Protocol
    probe: Probe
    attacks: dict[str, AttackConfig] = Field(default_factory=dict)
    """Attacks on the finished models, by condition."""
    trainer: Trainer
    logger: Logger
    callbacks: Callbacks
    goal: str
    """Last stage to compute."""
    cache: Cache
    """Use of stored results: ``use``, ``refresh`` (recompute) or ``readonly`` (compute nothing)."""
    plan: bool
    """Whether to show cached and missing results, then stop."""
    status: bool
    """Whether to show done, running and failed results, then stop."""
    preflight: bool
    """Whether to check memory and disk."""
    limit: Count | None
    """Maximum number of facts per split and evaluation set; null for all."""
    store: str
    """Folder of stage results."""
    outputs: str
    """Folder of everything that the program writes."""
    disclaimer: str | None
    """Text shown with every number; null for none."""
    trusted_packages: list[str] = Field(default_factory=list)
    """Further packages that a ``_target_`` may name."""

    @consistency
    def _check_plan(self) -> None:
        if self.plan and self.status:
            raise UserError("plan=true and status=true cannot be combined: set one of them")

    @consistency
    def _check_adapters(self) -> None:
        lora, adapters, option = self.model.lora, self.adapters, self.adapters_option
        if self.trainer.strategy == "fsdp" and adapters is not None:
            raise UserError(
                f"trainer.strategy=fsdp does not support {option}={adapters['rank']}: set trainer=ddp for adapters, or "
                f"{option}=null to train all weights"
            )
        if lora.init not in (None, "default") and adapters is None:
            expected = "null for model.lora.rank=null, which trains all weights; for adapters, set model.lora.rank=32"
            raise invalid_option("model.lora.init", lora.init, expected)

    @consistency
    def _check_perturbation(self) -> None:
        self.optim.check_precision(self.model.precision, adapters=self.adapters is not None)

    @consistency
    def _check_run_name(self) -> None:
        if (size := len(self.run_name.encode())) > NAME_BYTES - RESERVED_BYTES:
            raise UserError(
                f"the names of model, dataset, split and method have {size} bytes together, but file names have room "
                f"for only {NAME_BYTES - RESERVED_BYTES}; choose a shorter model.name or dataset.name"
            )

    @property
    def adapters_option(self) -> str:
        """Option that sets the rank of the adapters that unlearning trains."""
        return "method.lora.rank" if self.model.lora.rank is None else "model.lora.rank"

    @property
    def adapters(self) -> dict[str, Any] | None:
        """Adapters that unlearning trains: ``rank``, ``alpha`` and, unless default, ``init``; ``None`` for all weights.

        Rank and alpha are those of ``model.lora`` if it has a rank, else the method's; likewise ``init``.
        """
        lora, own = self.model.lora, self.method.lora
        chosen = lora if lora.rank is not None or own is None else own
        init = lora.init or (None if own is None else own.init) or "default"
        matrices = chosen.matrices
        return matrices if matrices is None or init == "default" else {**matrices, "init": init}

    @property
    def run_name(self) -> str:
        """Readable name of the run: its model, dataset, split, method and seed; its files carry the name."""
        parts = [
            self.model.name, self.dataset.name, self.dataset.split, self.method.name + self.protocol.suffix,
            f"s{self.seed}", "debug" if self.disclaimer else "",
        ]  # fmt: skip
        return "-".join(part for part in parts if part)

    @property
    def runtime(self) -> Runtime:
        """The settings of a stage that must not change its result."""
        trainer, callbacks = self.trainer.plain(), self.callbacks.plain()
        executor_only = ("name", "parallel_stages", "threads")
        return Runtime(**{name: value for name, value in trainer.items() if name not in executor_only}, **callbacks)


def hydra_schema() -> type:
    """Build the structured config of Hydra: the names of all options, and the types of those outside of groups."""

    def hint(annotation: Any) -> Any:
        parts = [str if typing.get_origin(part) is Literal else part for part in alternatives(annotation)]
        if all(part in (int, bool, str, type(None)) for part in parts):
            return functools.reduce(operator.or_, parts)
        return list[str] if parts == [list[str]] else Any

    fields = [
        (name, hint(field.rebuild_annotation()),
         dataclasses.field(default=MISSING) if field.is_required() else
         dataclasses.field(default_factory=field.get_default(call_default_factory=True).__class__))
        for name, field in RunConfig.model_fields.items()
    ]  # fmt: skip
    return dataclasses.make_dataclass("Config", fields)
