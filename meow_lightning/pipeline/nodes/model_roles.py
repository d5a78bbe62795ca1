"""Sources of a run's models by role: base, target and retain are provided, or trained by the run itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from meow_lightning.config.model_options import ReleasedCheckpoints
from meow_lightning.config.schema import RunConfig
from meow_lightning.errors import UserError, invalid_option
from meow_lightning.models.checkpoint import check_tokenizer_fits, format_of
from meow_lightning.models.gguf_file import rounding_note
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
        released: Whether it is a published checkpoint for this dataset.
    """

    weights: Source
    tokenizer: Source
    key: dict[str, str]
    released: bool


class Roles:
    """The provided models of a run by role, ``None`` for a role whose model is trained here.

    Args:
        config: The options of the run.

    Raises:
        UserError: A source is invalid, two roles have the same weights, or no target model can be obtained.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config, self.model = config, config.model
        self.base = self._provided("base", self.model.base)
        self.target = self._role("target")
        self.retain_predictions: str | None = config.evaluation.retain_predictions
        disabled = self.model.retain == NONE or self.retain_predictions is not None
        self.retain = None if disabled else self._role("retain")
        if self.target is None and not self.has_base:
            name = self.model.name
            raise UserError(
                f"model={name} needs model.target=FOLDER (a model that knows the facts) or model.base=FOLDER (one to "
                "fine-tune on them here); a hub id such as owner/name@revision works as well"
            )

        self._check_apart()

    def _check_apart(self) -> None:
        """Refuse a base or retain model with the weights of the target model."""
        target, base, retain = self.target, self.base, self.retain
        if base is not None and target is not None and self._has_target_weights(base):
            raise UserError(
                f"model.base={base.weights} holds the same weights as model.target={target.weights}: a model "
                "fine-tuned from it already knows the facts; set model.base to the model before it learned them, or "
                "leave model.base out"
            )
        if retain is not None and target is not None and not retain.released and self._has_target_weights(retain):
            raise UserError(
                f"model.retain={retain.weights} holds the same weights as model.target={target.weights}: forget "
                "quality would compare the model with itself; set model.retain to a model that never saw the forget "
                "set, or model.retain=none"
            )

    def _has_target_weights(self, other: ProvidedModel) -> bool:
        """Whether a provided model has the weights of the target model, as far as both are on this machine."""
        if self.target is None:
            return False
        memory = Path(self.config.store) / ".digests.json"
        other_weights, target_weights = (weights_identity(each.weights, memory=memory) for each in (other, self.target))
        return other_weights == target_weights

    @property
    def has_base(self) -> bool:
        """Whether there is a base to fine-tune: a provided one or one trained here."""
        return self.base is not None or self.model.architecture is not None

    @property
    def retain_missing_reason(self) -> str | None:
        """Why the run has no retain model; ``None`` if it has one or trains one."""
        if self.retain_predictions is not None:
            return "a log replaces the retain model (evaluation.retain_predictions) and does not contain this metric"
        if self.model.retain == NONE:
            return "there is no retain model (model.retain=none)"
        if self.retain is None and not self.has_base:
            return (
                "there is no retain model: only model.target is provided; set model.retain=FOLDER (a model that never "
                "saw the forget set) or model.base=FOLDER to fine-tune one here"
            )
        return None

    def notes(self) -> list[str]:
        """List notes on these models for readers of the report."""
        return [*self._rounding_notes(), *self._recipe_notes()]

    def _rounding_notes(self) -> list[str]:
        """Describe how the weights of GGUF files are rounded, each file once."""
        files = {
            str(each.weights): each.weights
            for each in (self.base, self.target, self.retain)
            if each and each.weights.is_gguf
        }
        notes = {each.option: rounding_note(each.path) for each in files.values() if each.path is not None}
        return [f"{option} is a GGUF file; {note}." for option, note in notes.items() if note is not None]

    def _recipe_notes(self) -> list[str]:
        """Describe what the comparison of target and retain model also compares."""
        if self.retain_predictions is not None:
            return [
                f"The log {self.retain_predictions} replaces the retain model: forget quality also "
                "compares their training recipes."
            ]
        if self.retain_missing_reason is not None or (self.target is None and self.retain is None):
            return []
        if self.retain is not None and self._has_target_weights(self.retain):
            return [
                f"The published retain model {self.retain.weights} has the same weights as the target model, so "
                "forget quality compares the target model with itself and is meaningless; set model.retain=null to "
                "fine-tune a retain model here."
            ]
        target, retain = (
            "was fine-tuned here" if provided is None else f"is {provided.weights}"
            for provided in (self.target, self.retain)
        )
        if self.target is not None and self.retain is not None and self.target.released:
            owners = {provided.weights.repository.partition("/")[0] for provided in (self.target, self.retain)}
            if len(owners) == 1:
                return []
        return [
            f"The target model {target}, the retain model {retain}: forget quality also compares their training "
            "recipes."
        ]

    def _role(self, role: Role) -> ProvidedModel | None:
        text = self.model.target if role == "target" else self.model.retain
        if text != RELEASED:
            return self._provided(role, text)
        dataset = self.config.dataset
        entry = self.model.released_checkpoints.get(dataset.name) or ReleasedCheckpoints()
        listed = entry.target if role == "target" else entry.retain.get(dataset.split)
        model = self._provided(role, listed)
        return model and replace(model, released=True)

    def teacher(self) -> ProvidedModel:
        """Locate the language model that ``inversion.model`` names, with its own tokenizer."""
        return self.other("inversion.model", self.config.inversion.arguments["model"], words=())

    def other(self, option: str, text: str, *, words: tuple[str, ...]) -> ProvidedModel:
        """Locate a model besides those of the run, with its own tokenizer.

        Args:
            option: Dotted name of the option that names it.
            text: The option's value.
            words: What else the option may be, for messages.
        """
        weights = pin_revision(parse(option, text, words=words))
        return self._named(weights, weights)

    def _provided(self, role: Role, text: str | None) -> ProvidedModel | None:
        if text is None:
            return None
        words = (*{"base": (), "target": (RELEASED,), "retain": (RELEASED, NONE)}[role], "null")
        # A branch is pinned to its commit here: what is fetched must be what the key names.
        weights = pin_revision(parse(f"model.{role}", text, words=words))
        return self._named(weights, pin_revision(self._tokenizer(weights)))

    def _named(self, weights: Source, tokenizer: Source) -> ProvidedModel:
        memory = Path(self.config.store) / ".digests.json"
        weights_key = identity(weights, memory=memory)
        same = tokenizer == weights
        key = {"weights": weights_key, "tokenizer": weights_key if same else identity(tokenizer, memory=memory)}
        return ProvidedModel(weights, tokenizer, key, released=False)

    def _tokenizer(self, weights: Source) -> Source:
        """Choose the tokenizer: the model's own if it has one; a repository's content is known once it is fetched."""
        text, own = self.model.tokenizer, weights.path
        if text is None:
            return weights
        other = parse("model.tokenizer", text, words=("null",))
        if other.is_gguf:
            raise invalid_option(
                "model.tokenizer", text, "a folder or a hub id: the tokenizer of a GGUF file is its own"
            )
        # A folder was chosen by the user; a hub id may come from conf/model, for published weights without a tokenizer.
        return weights if other.path is None and own is not None and _has_tokenizer(own) else other


def _has_tokenizer(folder: Path) -> bool:
    """Whether a model's folder or GGUF file holds a tokenizer that fits the model."""
    stored = format_of(folder)
    complete = stored.missing_tokenizer(folder) is None and stored.names_end_token(folder)
    return complete and check_tokenizer_fits(folder, folder)
