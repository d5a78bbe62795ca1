"""unlearn: train the start model with the method on its streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meow_lightning.config.instantiate import instantiate
from meow_lightning.config.model_options import INIT_STREAMS
from meow_lightning.data.encoding import encode
from meow_lightning.data.examples import Dataset
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.data.streams.refusals import Refusals, refusals_from
from meow_lightning.data.streams.resolve import stream_builders
from meow_lightning.distributed import device, rank
from meow_lightning.errors import UserError
from meow_lightning.evaluation.checkpoint_selection import selection_metrics
from meow_lightning.evaluation.sets import set_infos
from meow_lightning.methods.base import BaseMethod
from meow_lightning.resources.requirements import Planner, TrainingWork
from meow_lightning.stages.base import Stage, StageContext, UsedMetrics
from meow_lightning.stages.common.adapter_init import initialise
from meow_lightning.stages.common.carry_over import carry_over
from meow_lightning.stages.common.checkpoint_selection import evaluation_curve, restore_best
from meow_lightning.stages.common.loading import check_unchanged, load_dataset, load_for_training
from meow_lightning.stages.common.reference_model import Weights, add_reference_logps, reference_model
from meow_lightning.stages.common.resuming import drop_damaged
from meow_lightning.stages.common.stored_method import write_method
from meow_lightning.stages.common.training import OOM_HINT, optim, save, train
from meow_lightning.stages.results.filter import FilterResult
from meow_lightning.stages.results.model import SAME, UNDO, ChosenExamples, ModelResult, Selection, model_folder
from meow_lightning.stages.results.score import ScoreResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.training.optimizers import check_optimizer
from meow_lightning.types import Encoded, InvertedFact, Method, ScoredText, Segments

if TYPE_CHECKING:
    import pytorch_lightning as pl
    import torch
    from transformers import PreTrainedModel

    from meow_lightning.data.batch_plan import BatchPlan
    from meow_lightning.data.prompting import PromptEncoder

CURVE_SLOTS = 64  # largest generation batch while training occupies the memory


class Unlearn(Stage):
    """Train the start model with the method."""

    name = "unlearn"
    version = 4
    after = ("score",)
    outputs = ModelResult.files
    quotes = False
    oom_hint = OOM_HINT
    component = "method"
    repeats = True

    def metrics(self, settings: Mapping[str, Any], needs: Mapping[str, Artifact]) -> UsedMetrics | None:
        """Determine the metrics that select the epoch; ``None`` if the last one is kept."""
        chosen = settings.get("checkpoint")
        return (
            None
            if chosen is None
            else UsedMetrics(chosen["sets"], chosen, only=selection_metrics(set_infos(chosen["sets"])))
        )

    splits = True

    def check(self, artifact: Artifact, *, gpu: bool) -> None:
        """Check that the optimizer is installed and works on the device."""
        check_optimizer(artifact.settings["recipe"].get("optimizer", "adamw"), gpu=gpu)

    def texts(
        self, artifact: Artifact, dataset: Dataset, *, streams: Mapping[str, StreamBuilder]
    ) -> Iterator[Segments]:
        """Yield the rows of its streams."""
        for builder in streams.values():
            yield from builder.checked_rows(dataset, seed=artifact.settings["seed"])

    def describe_work(self, artifact: Artifact, planner: Planner) -> TrainingWork:
        """Describe the training on its streams; of inverted facts, as many as are selected per fact."""
        picked = planner.options["method"].get("select", {}).get("k", 1)
        streams = [
            [
                fact
                for fact in builder.examples(planner.dataset, seed=artifact.settings["seed"])
                for _ in range(picked if name == "inverted" else 1)
            ]
            for name, builder in planner.streams.items()
        ]
        probes = ("memo_every_epochs", "memo_every_steps", "evaluate_every_epochs")
        evaluated = "checkpoint" in artifact.settings or any(planner.options["callbacks"][name] for name in probes)
        extra = [_extra_passes(artifact.settings["recipe"], name) for name in planner.streams]
        init = (artifact.settings["model"]["lora"] or {}).get("init", "default")
        attached = artifact.inputs.get("attaches", False)
        return TrainingWork(
            streams=streams, evaluated=evaluated, adapters_possible=not attached, extra=extra,
            gradients=[fact for name in INIT_STREAMS[init] for fact in planner.dataset.facts(name)],
        )  # fmt: skip

    def run(self, work: StageContext) -> None:
        """Write the model and, for methods that train on inverted facts, their selection.

        A later round trains again from the start model, on the inverted facts selected in earlier rounds and those
        selected from the new ones. If nothing is new, the model of the previous round is carried over.
        """
        if "previous" in work.needs and not ScoreResult.read(work.needs["candidate_scores"]).texts:
            work.warn("no new inverted facts to train on: the previous round's model is kept")
            carry_over(work)
            return
        if rank() == 0:
            (work.folder / SAME).unlink(missing_ok=True)  # may be left by a killed run without new candidates
        drop_damaged(work)
        from meow_lightning.training.module import TrainingModule
        from meow_lightning.training.preparation import prepare_method

        method: BaseMethod = instantiate(work.settings["method"], allow=work.inputs["allow"])
        start = model_folder(work.needs["start"])
        model, codec = load_for_training(work, start)
        # Some methods need the device's kernels to prepare the model, or to read the start model's log-probabilities.
        model.to(device(work.runtime.accelerator))  # type: ignore[arg-type]
        plan = _plan(work, codec, method, model)
        initialise(work, model, codec)
        prepare_method(
            method, model, rows={name: stream.rows for name, stream in plan.streams.items()},
            seed=work.settings["seed"], pad_id=codec.pad_id, micro_batch_size=work.runtime.micro_batch_size,
            micro_batch_tokens=work.runtime.micro_batch_tokens,
            may_attach=work.settings["model"]["lora"] is None and work.runtime.strategy != "fsdp",
        )  # fmt: skip
        model.train()
        module = TrainingModule(
            model=model, method=method, plan=plan, optim=optim(work, plan),
            log_every=work.runtime.log_every, reference=reference_model(work, method, model),
        )  # fmt: skip
        model = train(work, module, pad_id=codec.pad_id, callbacks=_probes(work, codec, plan))
        restore_best(work, model, steps_per_epoch=plan.steps_per_epoch)
        save(
            work, model, codec, finish=lambda plain: method.finalize(plain, Weights(start)),
            export=partial(_export, work, method),
        )  # fmt: skip


def _extra_passes(recipe: Mapping[str, Any], stream: str) -> float:
    """Count the passes over a stream besides the usual ones: at perturbed weights, and forward for losses of rows."""
    perturbed = "sam_rho" in recipe and (stream != "retain" or recipe["sam_terms"] == "all")
    weighed = "aggregate" in recipe and stream != "retain"
    return perturbed + weighed * (1 + perturbed) / 3


def _refusals(work: StageContext, dataset: Dataset) -> Refusals:
    """Read the refusals that the plan is for."""
    path, redrawn = work.inputs.get("refusals"), work.settings.get("redraw_refusals", False)
    builder = refusals_from(path, epochs=work.settings["recipe"]["epochs"] if redrawn else None)
    if path is not None:
        now = builder.digest(dataset, seed=work.settings["seed"])
        check_unchanged(f"method.refusals={path}", now, work.settings["rows"]["idk"])
    return builder


def _export(work: StageContext, method: BaseMethod, model: torch.nn.Module, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    method.export(model, folder)
    write_method(folder, method, work.settings["method"])
    if method.sparse:
        from meow_lightning.models.undo import write_undo

        reason = write_undo(model_folder(work.needs["start"]), folder, work.folder / UNDO)
        if reason is not None:
            work.warn(f"no undo file: {reason}")


def _plan(work: StageContext, codec: PromptEncoder, method: Method, model: PreTrainedModel) -> BatchPlan:
    from meow_lightning.data.batch_plan import BatchPlan, StreamData
    from meow_lightning.training.streams import stream_texts

    recipe, seed, dataset = work.settings["recipe"], work.settings["seed"], load_dataset(work)
    inverted = _select(work) if "inverted" in method.streams else []
    refusals = _refusals(work, dataset)
    builders = stream_builders(method, refusals=refusals)
    texts = stream_texts(method, dataset, inverted=inverted, seed=seed, refusals=refusals)
    chosen = {name: builder.chosen(dataset, seed=seed) for name, builder in builders.items()}
    if any(chosen.values()) and rank() == 0:
        ChosenExamples(chosen).write(work.folder)

    def planned(rows: dict[str, list[Encoded]]) -> BatchPlan:
        return BatchPlan(
            streams={name: StreamData.of_draws(each, builders[name].draws) for name, each in rows.items()},
            global_batch_size=recipe["global_batch_size"], batch_tokens=recipe.get("batch_tokens"),
            epochs=recipe["epochs"], seed=seed, paired=method.paired,
        )  # fmt: skip

    rows = {name: encode(codec, text) for name, text in texts.items()}
    plan = planned(rows)  # fail on an impossible plan before the start model is evaluated
    if method.reference not in ("logprobs", "both"):
        return plan
    return planned(
        {
            name: add_reference_logps(work, model, each, name=name, pad_id=codec.pad_id)
            if builders[name].compared
            else each
            for name, each in rows.items()
        }
    )


def _select(work: StageContext) -> list[InvertedFact]:
    """Select inverted facts by their MEMO scores, one row each, and store the selection for the report.

    A fact with fewer candidates than ``method.select.k`` contributes all of them.

    Raises:
        UserError: A fact has too few, and ``inversion.on_shortage`` does not allow that.
    """
    from meow_lightning.memo.select import layout, select

    selection = work.settings["select"]
    inverted = {(each.fact, each.position): each for each in FilterResult.read(work.needs["filtered"]).inverted}
    earlier = Selection.read(work.needs["previous"]).positions if "previous" in work.needs else {}
    picked = {fact: [*positions] for fact, positions in earlier.items()}
    new = candidates(work)
    for fact in dict.fromkeys(fact for fact, _ in inverted) if "previous" not in work.needs else new:
        scored = new.get(fact, [])
        k = min(selection["k"], len(scored))
        if k < selection["k"] and work.inputs.get("on_shortage", "warn") not in ("warn", "few"):
            raise UserError(
                f"fact {fact} has {len(scored)} inverted facts that can be measured, fewer than method.select.k="
                f"{selection['k']}; set inversion.on_shortage=warn to train on those, or lower method.select.k"
            )
        if not k:
            continue
        scores = [text.score for text in scored]
        chosen = select(scores, k=k, strategy=selection["strategy"], seed=work.settings["seed"], fact=fact)
        picked[fact] = [*picked.get(fact, ()), *(scored[i].position for i in chosen)]
    if rank() == 0:  # every process selects the same; two that replace one file at once disturb each other
        Selection(picked).write(work.folder)
    return [
        inverted[fact, position] for fact, each in picked.items() for position in layout(each, rows=selection["rows"])
    ]


def candidates(work: StageContext) -> dict[str, list[ScoredText]]:
    """Read the new scored candidates, by fact; with a baseline, their scores are differences to it."""
    texts: Sequence[ScoredText] = ScoreResult.read(work.needs["candidate_scores"]).texts
    if "baseline_scores" in work.needs:
        from meow_lightning.memo.select import relative

        texts = relative(texts, ScoreResult.read(work.needs["baseline_scores"]).texts)
    by_fact: dict[str, list[ScoredText]] = {}
    for text in texts:
        by_fact.setdefault(text.fact, []).append(text)
    return by_fact


def _probes(work: StageContext, codec: PromptEncoder, plan: BatchPlan) -> list[pl.Callback]:
    return [*_memo_curve(work, codec, plan), *evaluation_curve(work, codec, steps_per_epoch=plan.steps_per_epoch)]


def _memo_curve(work: StageContext, codec: PromptEncoder, plan: BatchPlan) -> list[pl.Callback]:
    """Build the probe of the ``memo`` measure on a fixed sample of the forget set, if ``callbacks`` enables it."""
    import random

    from meow_lightning.generation.batch_size import AdaptiveBatchSize
    from meow_lightning.memo.measure import true_answer
    from meow_lightning.training.callbacks.memo import MemoProbe

    every = work.runtime.memo_every_steps or plan.steps_per_epoch * work.runtime.memo_every_epochs
    if not every or not work.runtime.memo_facts:
        return []
    forget = load_dataset(work).facts("forget")
    node = work.inputs["memo"]
    sample = random.Random(0).sample(forget, min(work.runtime.memo_facts, len(forget)))
    return [
        MemoProbe(
            codec=codec, texts=[true_answer(example) for example in sample],
            by=instantiate(node, allow=work.inputs["allow"], name=node["name"]),
            slots=AdaptiveBatchSize(
                min(work.runtime.generation_batch_size or CURVE_SLOTS, CURVE_SLOTS), note=work.warn
            ),
            every=every,
        )
    ]  # fmt: skip
