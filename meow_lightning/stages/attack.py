"""attack: transform a finished model as an attack does; predict and score then run on the result."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meow_lightning.attacks.base import AttackContext, ModelAttack
from meow_lightning.config.instantiate import instantiate
from meow_lightning.config.precision import DTYPE_BYTES
from meow_lightning.data.encoding import encode, training_segments
from meow_lightning.data.examples import Dataset, Example
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.distributed import barrier, rank
from meow_lightning.errors import UserError
from meow_lightning.evaluation.attack_numbers import AttackNumber, write_numbers
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.finetune import FineTune
from meow_lightning.models.pretrained_folder import METHOD
from meow_lightning.resources.requirements import InferenceWork, Planner, TrainingWork, Work
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.stages.common.loading import load_dataset, load_facts, load_stored, with_adapters
from meow_lightning.stages.common.precision import training_precision
from meow_lightning.stages.common.resuming import drop_damaged
from meow_lightning.stages.common.stored_method import has_own_inference, method_of
from meow_lightning.stages.common.training import OOM_HINT, optim, save, train, with_phrasings
from meow_lightning.stages.results.model import ModelResult, model_folder
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Definition, Encoded, Segments

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from transformers import PreTrainedModel

    from meow_lightning.data.prompting import PromptEncoder

CURVE_SLOTS = 64  # largest generation batch while training occupies the memory
Export = Callable[["PreTrainedModel", Path], None]
RECIPE = "recipe"  # the setting that only an attack which trains has


class Attack(Stage):
    """Transform a finished model."""

    name = "attack"
    version = 1
    after = ("unlearn",)
    outputs = ModelResult.files
    quotes = False
    oom_hint = OOM_HINT
    component = "attack"
    absent = "goal=attack runs nothing without an attack on the models; set attacks=[relearn]"

    def distributed(self, inputs: Mapping[str, Any]) -> bool:
        """Whether the attack trains; other attacks are work of one process."""
        return bool(inputs["trains"])

    def texts(
        self, artifact: Artifact, dataset: Dataset, *, streams: Mapping[str, StreamBuilder]
    ) -> Iterator[Segments]:
        """Yield the rows that it reads."""
        yield from training_segments(_rows(artifact.settings, artifact.inputs, dataset))

    def describe_work(self, artifact: Artifact, planner: Planner) -> Work:
        """Describe the training on its rows; else a model that is loaded."""
        rows = _rows(artifact.settings, artifact.inputs, planner.dataset)
        if RECIPE in artifact.settings:
            evaluated = "curve" in artifact.settings
            return TrainingWork(streams=[with_phrasings(rows)], evaluated=evaluated, adapters_possible=True)
        load = planner.inference_load(
            rows or planner.dataset.facts("forget"), texts=1, prompts=0, generated=0, shared=False, gradient=bool(rows)
        )
        return InferenceWork(items=1, load=load, rows=1, generation_batch_size=0, tokens=0, scored=0)

    def disk(self, artifact: Artifact, planner: Planner) -> int:
        """Estimate the bytes of the weights of an attack that does not train."""
        dtype = artifact.settings["model"].get("dtype")
        return 0 if dtype is None else planner.weights(artifact) * DTYPE_BYTES[dtype]

    def run(self, work: StageContext) -> None:
        """Write ``model/``, the attacked model; a killed training is resumed."""
        attack: ModelAttack = instantiate(work.settings["attack"], allow=work.inputs["allow"])
        numbers: list[AttackNumber] = []
        folder = model_folder(work.needs["model"])
        own = has_own_inference(method_of(folder, allow=work.inputs["allow"]))
        if RECIPE in work.settings:
            drop_damaged(work)
            if own:
                _train_as_it_answers(work, attack, folder, numbers)
            else:
                stored = load_stored(work, folder, dtype=training_precision(work).trained)
                save(work, attack.transform_model(stored.model, _context(work, stored.codec, numbers)), stored.codec)
        elif rank() == 0:
            stored = load_stored(work, folder, dtype=work.settings["model"]["dtype"])
            model = attack.transform_model(stored.model, _context(work, stored.codec, numbers))
            _save(work, model, stored.codec, export=_export_of(stored.method, folder) if own else None)
        if attack.records and rank() == 0:
            write_numbers(numbers, work.folder)
        barrier(work.runtime.accelerator)


def _rows(settings: Mapping[str, Any], inputs: Mapping[str, Any], dataset: Dataset) -> list[Example]:
    attack: ModelAttack = instantiate(settings["attack"], allow=inputs["allow"])
    return attack.rows(dataset, settings["seed"]) if "seed" in settings else []


def _context(work: StageContext, codec: PromptEncoder, numbers: list[AttackNumber]) -> AttackContext:
    @cache
    def rows() -> list[Encoded]:
        return encode(codec, training_segments(_rows(work.settings, work.inputs, load_dataset(work))))

    def record(definition: Definition, before: float, after: float) -> None:
        numbers.append(AttackNumber(definition, before, after))

    return AttackContext(
        warn=work.warn, train=lambda model: _train(work, model, rows(), codec), rows=rows, record=record
    )  # fmt: skip


def _train(
    work: StageContext, model: PreTrainedModel, rows: Sequence[Encoded], codec: PromptEncoder
) -> PreTrainedModel:  # fmt: skip
    """Fine-tune a model on the rows of the attack, with adapters if the settings have any."""
    from meow_lightning.data.batch_plan import BatchPlan, StreamData
    from meow_lightning.training.module import TrainingModule

    recipe = work.settings[RECIPE]
    plan = BatchPlan(
        streams={"learn": StreamData(rows=rows)}, global_batch_size=recipe["global_batch_size"], batch_tokens=None,
        epochs=recipe["epochs"], seed=work.settings["seed"], paired=(),
    )  # fmt: skip
    model.train()
    module = TrainingModule(
        model=with_adapters(work, model), method=FineTune(), plan=plan, optim=optim(work, plan),
        log_every=work.runtime.log_every, reference=None,
    )  # fmt: skip
    return train(work, module, pad_id=codec.pad_id, callbacks=_curve(work, codec))


def _curve(work: StageContext, codec: PromptEncoder) -> list[pl.Callback]:
    """Build the callback that measures what the model states of the facts to forget while it trains, if asked for."""
    if "curve" not in work.settings:
        return []
    from meow_lightning.generation.batch_size import AdaptiveBatchSize
    from meow_lightning.training.callbacks.evaluation import EvaluationProbe, PredictionSettings

    facts = [replace(fact, paraphrase=None, perturbed=()) for fact in load_facts(work, "forget")]
    slots = min(work.runtime.generation_batch_size or CURVE_SLOTS, CURVE_SLOTS)
    return [
        EvaluationProbe(
            codec=codec, questions=[("forget", index, fact) for index, fact in enumerate(facts)], retain=[],
            every=work.settings["curve"]["every"], best=None,
            how=PredictionSettings(
                max_new_tokens=work.settings["curve"]["max_new_tokens"], batch=work.runtime.eval_batch_size,
                slots=AdaptiveBatchSize(slots, note=work.warn), truth_ratio_mean="geometric",
            ),
        )
    ]  # fmt: skip


def _train_as_it_answers(
    work: StageContext, attack: ModelAttack, folder: Path, numbers: list[AttackNumber]
) -> None:  # fmt: skip
    """Train all weights behind a model that answers through its method, with the loss of what it answers.

    Raises:
        UserError: Adapters or sharding are set, or the attack returns another model.
    """
    stored = load_stored(work, folder, dtype=training_precision(work).trained)
    name = type(stored.method).__name__
    if work.settings["model"]["lora"] is not None or work.runtime.strategy == "fsdp":
        raise UserError(
            f"{work.stage} {work.label}: the model answers through {name}, whose weights can be trained neither with "
            "adapters nor sharded; set model.lora.rank=null and trainer.strategy=ddp, or leave the attack out"
        )
    answering: PreTrainedModel = stored.method.inference(stored.model)  # type: ignore[assignment]
    if attack.transform_model(answering, _context(work, stored.codec, numbers)) is not answering:
        raise UserError(
            f"{work.stage} {work.label}: the model answers through {name}, but the attack returned another model "
            "instead of changing it in place; change transform_model, or leave the attack out"
        )
    save(work, stored.model, stored.codec, export=_export_of(stored.method, folder))


def _export_of(method: BaseMethod, source: Path) -> Export:
    """Write a model with its method, whose name and options are those of the folder that it came from."""

    def export(model: PreTrainedModel, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        method.export(model, folder)
        shutil.copyfile(source / METHOD, folder / METHOD)

    return export


def _save(work: StageContext, model: PreTrainedModel, codec: PromptEncoder, *, export: Export | None) -> None:
    from meow_lightning.models.completeness import check_finite
    from meow_lightning.models.load import save_model

    check_finite(model, cause=f"NaN or infinite values in {{count}} of the {work.label} model after the attack")
    save_model(model, codec.tokenizer, model_folder(work.folder), end_ids=codec.end_ids, export=export)
