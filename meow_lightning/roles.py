"""Which models a cell is given and which it makes: the roles base, target and retain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from meow_lightning.config import check_types
from meow_lightning.models.given import lacking_tokenizer
from meow_lightning.models.source import Source, identity, parse
from meow_lightning.schema import Published
from meow_lightning.types import UserError

Role = Literal["base", "target", "retain"]
PUBLISHED = "published"
NONE = "none"


@dataclass(frozen=True, slots=True)
class Given:
    """A model that is there already.

    Attributes:
        weights: Where its weights are.
        tokenizer: Where its tokenizer is, often the same place.
        key: What names both in a key.
        published: Whether others published it for this dataset.
    """

    weights: Source
    tokenizer: Source
    key: dict[str, str]
    published: bool


class Roles:
    """The models of a cell by role: given, or ``None`` where it is made here.

    Args:
        options: Resolved options of the cell.

    Raises:
        UserError: A source that cannot be, or no way to any target model.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options, self.model = options, options["model"]
        self.base = self._given("base", self.model["base"])
        self.target = self._role("target")
        self.retain = None if self.model["retain"] == NONE else self._role("retain")
        if self.target is None and not self._makes:
            name = self.model["name"]
            raise UserError(
                f"model={name} needs model.target=FOLDER (a model that knows the facts) or model.base=FOLDER (one that "
                "learns them here); a hub id such as owner/name@revision does as well"
            )

    @property
    def _makes(self) -> bool:
        """Whether there is anything to fine-tune: a base, or the means to make one."""
        return self.base is not None or self.model["architecture"] is not None

    @property
    def no_retain(self) -> str | None:
        """Why there is no retain model, ``None`` where there is or will be one."""
        if self.model["retain"] == NONE:
            return "there is no retain model (model.retain=none)"
        if self.retain is None and not self._makes:
            return (
                "there is no retain model: model.target is given alone; give model.retain=FOLDER (a model that never "
                "saw the forget set) or model.base=FOLDER to fine-tune one here"
            )
        return None

    def notes(self) -> list[str]:
        """What a reader of the numbers must know of these models."""
        if self.target is None or self.no_retain is not None:
            return []
        how = f"The target model is {self.target.weights}, the retain model "
        if self.retain is None:
            return [f"{how}was fine-tuned here: forget quality compares their recipes too."]
        owner = self.target.weights.repository.partition("/")[0]
        same = self.target.published and owner == self.retain.weights.repository.partition("/")[0]
        return [] if same else [f"{how}is {self.retain.weights}: forget quality compares their recipes too."]

    def _role(self, role: Role) -> Given | None:
        said = self.model[role]
        if said != PUBLISHED:
            return self._given(role, said)
        dataset = self.options["dataset"]
        entry = self.model["published"].get(dataset["name"]) or {}
        check_types(f"model.published.{dataset['name']}", entry, Published)
        listed = entry.get(role)
        if isinstance(listed, Mapping):
            listed = listed.get(dataset.get("split"))
        given = self._given(role, listed)
        return given and Given(given.weights, given.tokenizer, given.key, published=True)

    def _given(self, role: Role, text: str | None) -> Given | None:
        if text is None:
            return None
        memory = Path(self.options["store"]) / ".digests.json"
        words = {"base": (), "target": (PUBLISHED,), "retain": (PUBLISHED, NONE)}[role]
        weights = parse(f"model.{role}", text, words=words)
        tokenizer = self._tokenizer(weights)
        key = {"weights": identity(weights, memory=memory), "tokenizer": identity(tokenizer, memory=memory)}
        return Given(weights, tokenizer, key, published=False)

    def _tokenizer(self, weights: Source) -> Source:
        """The model's own tokenizer where it has one; what a repository has is known only once it is here."""
        other = self.model["tokenizer"]
        if other is None or (weights.folder is not None and lacking_tokenizer(weights.folder) is None):
            return weights
        return parse("model.tokenizer", other, words=())
