"""Nodes of the models before unlearning (base, target and retain) and of the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from meow_lightning.config.recipes import recipe_for_rows
from meow_lightning.data.encoding import TRAINED_FIELDS, content_digest
from meow_lightning.data.examples import attributes
from meow_lightning.errors import UserError
from meow_lightning.inversion.chat_model import DATE
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.pipeline.nodes.model_roles import ProvidedModel
from meow_lightning.stages.results.model import CONVERTED
from meow_lightning.store.artifact import Artifact

# A teacher gets the prompts of its own chat template; the date that some templates print is pinned.
TEACHER_PROMPT = {"template": "auto", "answer_prefix": "", "system": None, "date": DATE}


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialModels:
    """The models before unlearning.

    Attributes:
        base: The model before it learns any fact; ``None`` if no model is fine-tuned here.
        target: The model that knows the facts.
        retain: The model that never saw the forget set; ``None`` for a run without one.
    """

    base: Artifact | None
    target: Artifact
    retain: Artifact | None


def initial_models(ctx: BuildContext) -> InitialModels:
    """Build the models before unlearning: those provided, and the others fine-tuned from the base."""
    roles = ctx.roles

    @cache
    def base() -> Artifact:
        return base_model(ctx)

    def model(role: str, provided: ProvidedModel | None, splits: Sequence[str]) -> Artifact:
        if provided is not None:
            return provided_model(ctx, role, provided, ctx.config.model.prompt.plain())
        return finetuned_model(ctx, role, splits, base())

    retain = roles.retain_missing_reason is None
    return InitialModels(
        target=model("target", roles.target, ["retain", "forget"]),
        retain=model("retain", roles.retain, ["retain"]) if retain else None,
        base=base() if roles.target is None or (retain and roles.retain is None) else None,
    )


def provided_model(
    ctx: BuildContext, label: str, provided: ProvidedModel, prompt: Mapping[str, Any]
) -> Artifact:  # fmt: skip
    """Describe a model that exists already; the stage checks and links its files, a GGUF file's once converted."""
    settings = {"given": provided.key, "prompt": prompt}
    sources = {
        "option": provided.weights.option, "weights": str(provided.weights), "tokenizer": str(provided.tokenizer),
    }  # fmt: skip
    # Links to weights hold no text of any dataset, and other users may link the same model in the same store.
    needs = {CONVERTED: _converted_model(ctx, label, provided)} if provided.weights.is_gguf else {}
    return ctx.artifact("finetune", label, settings, needs, given=sources, private=False)


def _converted_model(ctx: BuildContext, label: str, provided: ProvidedModel) -> Artifact:
    """Describe the plain folder that a GGUF file becomes, whatever roles and prompts it is used with."""
    source = {"option": provided.weights.option, "weights": str(provided.weights)}
    return ctx.artifact("convert", label, {"gguf": provided.key["weights"]}, {}, source=source, private=False)


def teacher_model(ctx: BuildContext) -> Artifact:
    """Describe the language model that writes inverted facts."""
    return provided_model(ctx, "teacher", ctx.roles.teacher(), TEACHER_PROMPT)


def base_model(ctx: BuildContext) -> Artifact:
    """Build the model before it learns any fact: provided, or pretrained here from random weights."""
    model = ctx.config.model
    if ctx.roles.base is not None:
        return provided_model(ctx, "base", ctx.roles.base, model.prompt.plain())
    if model.pretrain is None or model.architecture is None or model.vocab_size is None:
        raise UserError("training a model from scratch needs model.architecture, model.pretrain and model.vocab_size")
    settings = {
        "rows": content_digest([
            ctx.stream_digest(model.pretrain.rows, model.seed), ctx.dataset.tokenizer_corpus(),
        ]),
        "splits": [], "architecture": model.architecture.plain(), "vocab_size": model.vocab_size,
        "recipe": model.pretrain.plain(), "seed": model.seed, "model": {**ctx.training_settings, "lora": None},
    }  # fmt: skip
    return ctx.artifact("finetune", "base", settings, {})


def finetuned_model(ctx: BuildContext, label: str, splits: Sequence[str], base: Artifact) -> Artifact:
    """Fine-tune the base on some splits; if they contain no facts, return the base itself."""
    model = ctx.config.model
    splits = [*splits, *model.finetune.also]
    rows = [attributes(each, TRAINED_FIELDS) for split in splits for each in ctx.dataset.facts(split)]
    if not rows:
        return base
    recipe = recipe_for_rows(model.finetune, len(rows))
    replayed = ctx.stream_digest(recipe["replay"] * recipe["epochs"], model.seed + 1)
    settings = {
        "rows": content_digest([rows, replayed]), "splits": splits, "recipe": recipe, "seed": model.seed,
        "model": ctx.training_settings,
    }  # fmt: skip
    return ctx.artifact("finetune", label, settings, {"start": base})
