"""The models that a run is provided with, by role, and those it makes itself: base, target and retain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from meow_lightning.config.schema import ReleasedCheckpoints
from meow_lightning.config.validation import check_types
from meow_lightning.errors import UserError, check_choice
from meow_lightning.models.checkpoint import check_tokenizer_fits, missing_tokenizer, names_end_token
from meow_lightning.models.sources import Source, identity, parse, pin_revision, weights_identity

Role = Literal["base", "target", "retain"]
RELEASED = "released"
NONE = "none"


@dataclass(frozen=True, slots=True)
class ProvidedModel:
    """A model that exists already.

    Attributes:
        weights: Source of its weights.
        tokenizer: Source of its tokenizer, often the same.
        key: Identity of both in a key.
        released: Whether others published it for this dataset.
    """

    weights: Source
    tokenizer: Source
    key: dict[str, str]
    released: bool


class Roles:
    """The provided models of a run by role, ``None`` for a role whose model is made here.

    Args:
        options: Resolved options of the run.

    Raises:
        UserError: A source is invalid, two roles have the same weights, or there is no way to a target model.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options, self.model = options, options["model"]
        self.base = self._given("base", self.model["base"])
        self.target = self._role("target")
        self.retain_predictions: str | None = options["evaluation"]["retain_predictions"]
        unwanted = self.model["retain"] == NONE or self.retain_predictions is not None
        self.retain = None if unwanted else self._role("retain")
        if self.target is None and not self._can_finetune:
            name = self.model["name"]
            raise UserError(
                f"model={name} needs model.target=FOLDER (a model that knows the facts) or model.base=FOLDER (one that "
                "learns them here); a hub id such as owner/name@revision does as well"
            )

        self._check_apart()

    def _check_apart(self) -> None:
        """Refuse a base or retain model with the weights of the target model."""
        target, base, retain = self.target, self.base, self.retain
        if base is not None and target is not None and self._has_target_weights(base):
            raise UserError(
                f"model.base={base.weights} holds the same weights as model.target={target.weights}: whatever is "
                "fine-tuned from it knows the facts; give the model as it was before it learned them, or leave "
                "model.base out"
            )
        if retain is not None and target is not None and not retain.released and self._has_target_weights(retain):
            raise UserError(
                f"model.retain={retain.weights} holds the same weights as model.target={target.weights}: forget "
                "quality would compare the model with itself; give a model that never saw the forget set, or say "
                "model.retain=none"
            )

    def _has_target_weights(self, other: ProvidedModel) -> bool:
        """Whether a provided model has the weights of the target model, as far as both are on this machine."""
        if self.target is None:
            return False
        memory = Path(self.options["store"]) / ".digests.json"
        one, two = (weights_identity(each.weights, memory=memory) for each in (self.target, other))
        return one == two

    @property
    def _can_finetune(self) -> bool:
        """Whether a base can be fine-tuned: a provided one or one made here."""
        return self.base is not None or self.model["architecture"] is not None

    @property
    def retain_missing_reason(self) -> str | None:
        """Why the run has no retain model; ``None`` where it has one or makes one."""
        if self.retain_predictions is not None:
            return "a log stands in for the retain model (evaluation.retain_predictions), and holds no such number"
        if self.model["retain"] == NONE:
            return "there is no retain model (model.retain=none)"
        if self.retain is None and not self._can_finetune:
            return (
                "there is no retain model: model.target is given alone; give model.retain=FOLDER (a model that never "
                "saw the forget set) or model.base=FOLDER to fine-tune one here"
            )
        return None

    def notes(self) -> list[str]:
        """Notes on these models for readers of the numbers."""
        if self.retain_predictions is not None:
            return [
                f"The log {self.retain_predictions} stands in for the retain model: forget quality compares their "
                "recipes too."
            ]
        if self.retain_missing_reason is not None or (self.target is None and self.retain is None):
            return []
        if self.retain is not None and self._has_target_weights(self.retain):
            return [
                f"The published retain model {self.retain.weights} holds the target model's own weights: it knows what "
                "is to be forgotten, and forget quality compares the target model with itself and means nothing; say "
                "model.retain=null to fine-tune one here."
            ]
        here = "was fine-tuned here"
        target, retain = (here if given is None else f"is {given.weights}" for given in (self.target, self.retain))
        if self.target is not None and self.retain is not None and self.target.released:
            owners = {given.weights.repository.partition("/")[0] for given in (self.target, self.retain)}
            if len(owners) == 1:
                return []
        return [f"The target model {target}, the retain model {retain}: forget quality compares their recipes too."]

    def _role(self, role: Role) -> ProvidedModel | None:
        text = self.model[role]
        if text != RELEASED:
            return self._given(role, text)
        dataset = self.options["dataset"]
        entry = self.model["released_checkpoints"].get(dataset["name"]) or {}
        check_types(f"model.released_checkpoints.{dataset['name']}", entry, ReleasedCheckpoints)
        listed = entry.get(role)
        if isinstance(listed, Mapping):
            listed = listed.get(dataset.get("split"))
        given = self._given(role, listed)
        return given and ProvidedModel(given.weights, given.tokenizer, given.key, released=True)

    def teacher(self) -> ProvidedModel:
        """Locate the language model that ``inversion.model`` names, with its own tokenizer."""
        weights = pin_revision(parse("inversion.model", self.options["inversion"]["model"], words=()))
        return self._named(weights, weights)

    def _given(self, role: Role, text: str | None) -> ProvidedModel | None:
        if text is None:
            return None
        words = (*{"base": (), "target": (RELEASED,), "retain": (RELEASED, NONE)}[role], "null")
        # A branch is pinned to its commit here: what is fetched must be what the key names.
        weights = pin_revision(parse(f"model.{role}", text, words=words))
        return self._named(weights, pin_revision(self._tokenizer(weights)))

    def _named(self, weights: Source, tokenizer: Source) -> ProvidedModel:
        memory = Path(self.options["store"]) / ".digests.json"
        whole = identity(weights, memory=memory)
        same = tokenizer == weights
        key = {"weights": whole, "tokenizer": whole if same else identity(tokenizer, memory=memory)}
        return ProvidedModel(weights, tokenizer, key, released=False)

    def _tokenizer(self, weights: Source) -> Source:
        """Choose the tokenizer: the model's own where it has one. What a repository holds is known once fetched."""
        text, own = self.model["tokenizer"], weights.folder
        if text is None:
            return weights
        other = parse("model.tokenizer", text, words=("null",))
        # A folder was chosen by the user; a hub id may come from conf/model, for published weights without a tokenizer.
        return weights if other.folder is None and own is not None and _has_tokenizer(own) else other


def _has_tokenizer(folder: Path) -> bool:
    """Whether a model's folder holds a tokenizer that fits the model."""
    return missing_tokenizer(folder) is None and names_end_token(folder) and check_tokenizer_fits(folder, folder)


def check_model(model: Mapping[str, Any]) -> None:
    """Validate the model settings.

    Raises:
        UserError: An option is invalid.
    """
    architecture = model["architecture"]
    if architecture is not None:
        if not isinstance(architecture, Mapping) or "_target_" not in architecture:
            raise UserError("model.architecture needs a _target_: the function that makes the model")
        if model["tokenizer"] is not None:
            raise UserError(
                f"model.tokenizer={model['tokenizer']} serves a given model, and model={model['name']} is made here"
            )
        template = model["prompt"]["template"]
        if model["target"] is None and template in ("chat", "auto"):
            raise UserError(
                f"model.prompt.template={template} needs a tokenizer that brings a chat template, and model="
                f"{model['name']} makes its own; say a text with {{question}} once"
            )
    template = model["prompt"]["template"]
    if template not in ("chat", "auto") and template.count("{question}") != 1:
        raise UserError(f"model.prompt.template={template!r} must hold {{question}} exactly once, or be chat or auto")
    check_choice("model.attention", model["attention"], ("sdpa", "eager", "flash_attention_2"))
