"""finetune: train or link a model; the base, target and retain models all come from this stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.encoding import encode, training_segments
from meow_lightning.data.examples import Dataset
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.distributed import barrier, rank
from meow_lightning.methods.finetune import FineTune, FineTuneUntilKnown
from meow_lightning.resources.requirements import NOTHING, Planner, Requirements, TrainingWork
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.stages.common.loading import check_unchanged, load_dataset, load_encoder, load_for_training
from meow_lightning.stages.common.precision import training_precision
from meow_lightning.stages.common.resuming import drop_damaged
from meow_lightning.stages.common.training import OOM_HINT, optim, save, train, with_phrasings
from meow_lightning.stages.results.model import CONVERTED, ModelResult, model_folder
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Segments

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from meow_lightning.data.batch_plan import BatchPlan
    from meow_lightning.data.prompting import PromptEncoder


class Finetune(Stage):
    """Train or link a model."""

    name = "finetune"
    version = 4
    after = ("convert",)
    outputs = ModelResult.files
    quotes = False
    oom_hint = OOM_HINT
    splits = True

    def components(self, settings: Mapping[str, Any], *, allow: Iterable[str]) -> list[type]:
        """List the method that the recipe trains with; none for a provided model."""
        return [method_class(settings["recipe"])] if "recipe" in settings else []

    def texts(
        self, artifact: Artifact, dataset: Dataset, *, streams: Mapping[str, StreamBuilder]
    ) -> Iterator[Segments]:
        """Yield the rows that it trains on; none for a provided model."""
        settings = artifact.settings
        if "given" in settings:
            return
        recipe = settings["recipe"]
        replayed = recipe.get("replay", 0) * recipe["epochs"]
        yield from chain.from_iterable(training_segments(dataset.facts(split)) for split in settings["splits"])
        if not settings["splits"]:
            yield from training_segments(dataset.pretraining_examples(recipe["rows"], settings["seed"]))
        elif replayed:
            yield from training_segments(dataset.pretraining_examples(replayed, settings["seed"] + 1))

    def describe_work(self, artifact: Artifact, planner: Planner) -> TrainingWork:
        """Describe the training on the rows of the splits, every phrasing and what is replayed."""
        recipe, splits, seed = (artifact.settings[name] for name in ("recipe", "splits", "seed"))
        rows = with_phrasings([fact for split in splits for fact in planner.dataset.facts(split)])
        if not splits:
            rows = [*planner.dataset.pretraining_examples(recipe["rows"], seed)]
        elif recipe["replay"]:
            rows += planner.dataset.pretraining_examples(recipe["replay"], seed + 1)
        # A model trained from scratch cannot use adapters.
        return TrainingWork(streams=[rows], evaluated=False, adapters_possible=bool(artifact.needs))

    def requirements(self, artifact: Artifact, planner: Planner) -> Requirements:
        """Estimate the training; a provided model is only read for its digest."""
        if "given" in artifact.settings:
            return replace(NOTHING, items=planner.weights(artifact))
        return super().requirements(artifact, planner)

    def run(self, work: StageContext) -> None:
        """Write ``model/``: links to a provided model, a model trained from scratch, or the start model fine-tuned."""
        if "given" in work.settings:
            return _link_provided(work)
        drop_damaged(work)
        from meow_lightning.training.module import TrainingModule

        model, codec = (
            _from_scratch(work)
            if "start" not in work.needs
            else load_for_training(work, model_folder(work.needs["start"]))
        )
        plan = _plan(work, codec)
        model.train()
        method = _method(work, plan)
        module = TrainingModule(
            model=model, method=method, plan=plan, optim=optim(work, plan),
            log_every=work.runtime.log_every, reference=None,
        )  # fmt: skip
        model = train(work, module, pad_id=codec.pad_id, callbacks=[])
        _report_end(work, method, plan)
        return save(work, model, codec)


def method_class(recipe: Mapping[str, Any]) -> type[FineTune]:
    """Select the method that a recipe trains with."""
    return FineTune if recipe.get("until") is None else FineTuneUntilKnown


def _method(work: StageContext, plan: BatchPlan) -> FineTune:
    recipe = work.settings["recipe"]
    if method_class(recipe) is FineTune:
        return FineTune()
    until = recipe["until"]
    least = until["epochs"] * plan.steps_per_epoch
    return FineTuneUntilKnown(known=until["loss"], steps_per_epoch=plan.steps_per_epoch, least=least)


def _report_end(work: StageContext, method: FineTune, plan: BatchPlan) -> None:
    """Report after how many steps training ended because the rows were learned, or that they were not."""
    if rank() or not isinstance(method, FineTuneUntilKnown):
        return
    loss = f"loss {method.mean:.2g} nats per answer token"
    if method.done:
        work.warn(f"its {len(plan.streams['learn'].rows)} rows were learned after {method.steps} steps ({loss})")
    else:
        work.warn(
            f"its rows were not learned within {plan.total_steps} steps ({loss}, threshold {method.known:g}); raise "
            "model.finetune.lr or model.finetune.steps"
        )


def _link_provided(work: StageContext) -> None:
    """Link the files of a provided model, after checking that model and tokenizer match."""
    from meow_lightning.models.checkpoint import check
    from meow_lightning.models.completeness import check_stored
    from meow_lightning.models.load import read_model_files
    from meow_lightning.models.pretrained_folder import link
    from meow_lightning.models.sources import identity, locate, parse

    sources, folder = work.inputs["given"], model_folder(work.folder)
    option = sources["option"]
    weights = locate(parse(option, sources["weights"], words=()), weights=True, fetch=False)
    tokenizer = locate(parse("model.tokenizer", sources["tokenizer"], words=()), weights=False, fetch=False)
    check(option, weights, tokenizer)
    memory = work.folder.parent.parent / ".digests.json"
    for name, source in (("weights", weights), ("tokenizer", tokenizer)):
        if rank() == 0 and "@" not in work.settings["given"][name]:
            check_unchanged(
                sources[name],
                identity(parse(option, str(source), words=()), memory=memory),
                work.settings["given"][name],
            )
    if rank() == 0:
        if CONVERTED in work.needs:
            plain = model_folder(work.needs[CONVERTED])
            tokenizer, weights = plain if tokenizer == weights else tokenizer, plain
        link(weights, tokenizer, folder)
        # Fail on an unusable prompt or tokenizer now, not after the other models are trained.
        name = f"{option}={sources['weights']}"
        check_stored(folder, name=name)
        for note in read_model_files(folder, folder, name=name).codec(work.settings["prompt"]).notes:
            work.warn(f"{name}: {note}")
    barrier(work.runtime.accelerator)


def _from_scratch(work: StageContext) -> tuple[PreTrainedModel, PromptEncoder]:
    import torch

    from meow_lightning.models.float64 import float64_forward
    from meow_lightning.models.load import DTYPES
    from meow_lightning.models.tiny import initialized_in, tokenizer_from
    from meow_lightning.models.vocabulary import tokenizer_texts

    texts = tokenizer_texts(load_dataset(work).tokenizer_corpus(), work.settings["model"]["prompt"])
    tokenizer = tokenizer_from(texts, vocab_size=work.settings["vocab_size"])
    torch.manual_seed(work.settings["seed"])
    precision = training_precision(work)
    dtype = DTYPES[precision.trained]
    with initialized_in(torch.float64 if precision.reproducible else torch.float32):
        model = instantiate(
            work.settings["architecture"], allow=work.inputs["allow"], vocab_size=len(tokenizer),
            end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id,
        ).to(dtype)  # fmt: skip
    if dtype == torch.float64:
        float64_forward(model)
    tokens = work.folder / "tokenizer"
    tokenizer.save_pretrained(tokens)
    return model, load_encoder(work, tokens, model)


def _plan(work: StageContext, codec: PromptEncoder) -> BatchPlan:
    from meow_lightning.data.batch_plan import BatchPlan, StreamData

    recipe, seed, source = work.settings["recipe"], work.settings["seed"], load_dataset(work)
    fresh: list[list] = []
    if work.settings["splits"]:
        rows = encode(
            codec, training_segments(fact for split in work.settings["splits"] for fact in source.facts(split))
        )
        if recipe["replay"]:
            replayed = encode(
                codec,
                training_segments(source.pretraining_examples(recipe["replay"] * recipe["epochs"], seed + 1)),
            )
            fresh = [replayed[i * recipe["replay"] : (i + 1) * recipe["replay"]] for i in range(recipe["epochs"])]
    else:
        rows = encode(codec, training_segments(source.pretraining_examples(recipe["rows"], seed)))
    stream = StreamData(rows=rows, fresh=fresh)
    return BatchPlan(
        streams={"learn": stream},
        global_batch_size=recipe["global_batch_size"],
        batch_tokens=None,
        epochs=recipe["epochs"],
        seed=seed,
        paired=(),
    )
