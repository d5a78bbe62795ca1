"""A cell's config to the artifacts of the models that know, and of what is measured of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from meow_lightning.config.instantiate import component_config, instantiate, without_key
from meow_lightning.config.precision import weights_dtype
from meow_lightning.config.recipes import recipe_for_rows
from meow_lightning.config.validation import check_call, check_measure
from meow_lightning.data.encoding import content_digest, digest_of, fingerprint
from meow_lightning.data.subset import Limited
from meow_lightning.errors import UserError
from meow_lightning.evaluation.protocols.registry import counted_rows, prediction_settings
from meow_lightning.evaluation.suite.membership import attacked_sets
from meow_lightning.methods.base import BaseMethod
from meow_lightning.pipeline.nodes.model_roles import ProvidedModel, Roles, check_model
from meow_lightning.stages import stage
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import digest as file_digest
from meow_lightning.types import Dataset

ASKED = ("id", "question", "answer", "paraphrase", "perturbed", "value")  # what answering reads of a fact
TRAINED = ("question", "answer", "phrasings")  # what training reads of a fact


@lru_cache(maxsize=8)
def _dataset(node: str, allow: tuple[str, ...], limit: int | None) -> tuple[Dataset, str]:
    whole = instantiate(json.loads(node), allow=allow)
    dataset: Dataset = whole if limit is None else Limited(dataset=whole, limit=limit)
    return dataset, fingerprint(dataset)


@lru_cache(maxsize=64)
def _stream(node: str, allow: tuple[str, ...], limit: int | None, rows: int, seed: int) -> str:
    return digest_of(_dataset(node, allow, limit)[0].stream(rows, seed), TRAINED)


def _named(options: Mapping[str, Any]) -> tuple[str, tuple[str, ...], int | None]:
    return json.dumps(options["dataset"], sort_keys=True), tuple(options["trusted_packages"]), options["limit"]


def dataset_of(options: Mapping[str, Any]) -> tuple[Dataset, str]:
    """(dataset, digest of its content) of some options, cut short where they say so; read once, however often asked."""
    return _dataset(*_named(options))


class Models:
    """Builds the artifacts of a cell's models from its resolved options, after checking these.

    Args:
        options: Resolved options.

    Raises:
        UserError: For options that cannot be.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.allow = list(options["trusted_packages"])
        check_call("dataset", options["dataset"], allow=self.allow)
        self.method = check_call("method", options["method"], allow=self.allow)
        instantiate(options["method"], allow=self.allow)  # its own ranges are said before any work
        check_model(options["model"])
        self.measure = check_measure(options["memo"], allow=self.allow)  # not after the models are trained
        self.dataset, content = dataset_of(options)
        self.roles = Roles(options)
        self.inputs = {
            "dataset": options["dataset"], "content": content, "limit": options["limit"],
            "allow": self.allow, "memo": options["memo"], "private": not self.dataset.public,
        }  # fmt: skip
        self.origin: dict[str, str] = {}

    def artifact(
        self, stage_name: str, label: str, settings: Mapping[str, Any], needs: Mapping[str, Artifact], **inputs: Any
    ) -> Artifact:
        """One result of this cell."""
        return Artifact(
            stage=stage_name, label=label, version=stage(stage_name).VERSION, settings=settings, needs=needs,
            inputs={**self.inputs, **inputs},
        )  # fmt: skip

    @property
    def model(self) -> dict[str, Any]:
        """What of the model every stage that asks one must know."""
        model = self.options["model"]
        return {
            "prompt": model["prompt"], "attention": model["attention"], "dtype": weights_dtype(model["precision"]),
        }  # fmt: skip

    @property
    def trained(self) -> dict[str, Any]:
        """What of the model every stage that trains one must know."""
        model, lora = self.options["model"], self.options["model"]["lora"]
        return {
            "prompt": model["prompt"], "attention": model["attention"], "precision": model["precision"],
            "lora": None if lora["rank"] is None else lora,
        }  # fmt: skip

    def facts(self, split: str, *parts: str) -> str:
        """The digest of what a stage reads of a split: some parts of each fact, all of them when none is named."""
        return digest_of(self.dataset.facts(split), parts)

    def stream(self, rows: int, seed: int) -> str:
        """The digest of a stretch of the dataset's stream; worked out once for all cells of a sweep."""
        return _stream(*_named(self.options), rows, seed)

    def given(self, label: str, given: ProvidedModel, prompt: Mapping[str, Any]) -> Artifact:
        """A model that is there already, as an artifact: links to its files, made once they are checked."""
        settings = {"given": given.key, "prompt": prompt}
        places = {"option": given.weights.option, "weights": str(given.weights), "tokenizer": str(given.tokenizer)}
        # Links to weights hold no text of any dataset, and others may have the same model in the same store.
        return self.artifact("finetune", label, settings, {}, given=places, private=False)

    @cached_property
    def base(self) -> Artifact:
        """The model before it knows the facts."""
        if self.roles.base is not None:
            return self.given("base", self.roles.base, self.options["model"]["prompt"])
        model = self.options["model"]
        settings = {
            "rows": content_digest([self.stream(model["pretrain"]["rows"], model["seed"]), self.dataset.texts()]),
            "splits": [], "architecture": model["architecture"], "vocab_size": model["vocab_size"],
            "recipe": model["pretrain"], "seed": model["seed"], "model": {**self.trained, "lora": None},
        }  # fmt: skip
        return self.artifact("finetune", "base", settings, {})

    def tuned(self, label: str, splits: list[str]) -> Artifact:
        """The base fine-tuned on some splits, or the base itself where these hold nothing."""
        model = self.options["model"]
        splits = [*splits, *model["finetune"]["also"]]
        pairs = [[getattr(fact, part) for part in TRAINED] for s in splits for fact in self.dataset.facts(s)]
        if not pairs:
            return self.base
        recipe = recipe_for_rows(without_key(model["finetune"], "also"), len(pairs))
        replayed = self.stream(recipe["replay"] * recipe["epochs"], model["seed"] + 1)
        settings = {
            "rows": content_digest([pairs, replayed]), "splits": splits, "recipe": recipe, "seed": model["seed"],
            "model": self.trained,
        }  # fmt: skip
        return self.artifact("finetune", label, settings, {"start": self.base})

    @cached_property
    def target(self) -> Artifact:
        """The model that knows the facts."""
        if self.roles.target is not None:
            return self.given("target", self.roles.target, self.options["model"]["prompt"])
        return self.tuned("target", ["retain", "forget"])

    @cached_property
    def retain(self) -> Artifact | None:
        """The model that never saw the forget set; ``None`` where there is none."""
        if self.roles.retain_missing_reason is not None:
            return None
        if self.roles.retain is not None:
            return self.given("retain", self.roles.retain, self.options["model"]["prompt"])
        return self.tuned("retain", ["retain"])

    def score(
        self, label: str, model: Artifact, needs: Mapping[str, Artifact], *, cut_unit: str | None = None
    ) -> Artifact:
        """MEMO on a model: of the candidates that are new, where inverted facts are given, else of the true answers.

        Args:
            label: Whose result it is.
            model: Who is asked.
            needs: Further results it is made from.
            cut_unit: What is cut by, one unit at a time; ``None`` for what ``memo`` says.
        """
        settings: dict[str, Any] = {"memo": component_config(self.options["memo"]), "model": self.model}
        if cut_unit is not None:
            settings["memo"] |= {"cut_unit": cut_unit, "stride": 1}
        if "inverted" not in needs:
            settings["facts"] = self.facts("forget", "id", "question", "answer")
        return self.artifact("score", label, settings, {"model": model, **needs})

    def answer(self, role: str, model: Artifact, only: Sequence[str] | None, before: dict[str, Artifact]) -> Artifact:
        """What a model says to the evaluation sets, or to some of them."""
        wish = self.options["evaluation"]
        if only is not None:  # what a teacher is told is no number of anybody's evaluator
            wish = {**wish, "protocol": "none"}
        every = {name: counted_rows(wish["protocol"], facts) for name, facts in self.dataset.evaluation().items()}
        sets = {name: digest_of(facts, ASKED) for name, facts in every.items() if only is None or name in only}
        gradients = attacked_sets(sets) if wish["gradient_norm"] else []
        asked = {**prediction_settings(wish), "gradients": gradients}
        settings = {"sets": sets, "evaluation": asked, "model": self.model}
        return self.artifact("predict", role, settings, {"model": model, **before})

    def checkpoint_choice(self) -> dict[str, Any]:
        """What the choice of an epoch depends on.

        Raises:
            UserError: No epoch can be chosen.
        """
        wish = self.options["evaluation"]
        if not wish["selection_fraction"]:
            raise UserError(
                "optim.checkpoint=best chooses an epoch on rows that all numbers then leave out: give "
                "evaluation.selection_fraction, the share of every set to set aside, such as 0.25"
            )
        if self.method.finish is not BaseMethod.finish:
            raise UserError(
                f"method={self.options['method']['name']} changes the model after its last step, so no epoch can be "
                "chosen; say optim.checkpoint=last"
            )
        if self.retain is None and wish["retain_predictions"] is None:
            raise UserError(
                f"optim.checkpoint=best compares every epoch with the retain model, but "
                f"{self.roles.retain_missing_reason}; "
                "give model.retain= or evaluation.retain_predictions=, or say optim.checkpoint=last"
            )
        chosen = {name: wish[name] for name in ("selection_fraction", "max_new_tokens", "truth_ratio_mean", "protocol")}
        if wish["retain_predictions"] is not None:
            chosen["retain_predictions"] = file_digest(Path(wish["retain_predictions"]))
        sets = {name: digest_of(facts, ASKED) for name, facts in self.dataset.evaluation().items()}
        return {**chosen, "sets": sets}

    def retain_predictions_needs(self) -> dict[str, Artifact]:
        """Our own answers of the retain model, whose ever evaluation the cell is to be as."""
        if self.options["evaluation"]["retain_predictions"] is not None or self.retain is None:
            return {}
        return {"retain_answers": self.answer("retain", self.retain, tuple(self.dataset.evaluation()), {})}
