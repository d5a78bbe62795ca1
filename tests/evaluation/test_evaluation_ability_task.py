"""Ability tasks of our own: built from their definition, with mistakes named before any work."""

from __future__ import annotations

from typing import Any

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.ability_task import own_task
from meow_lightning.evaluation.continuation import Continuations

DEFINITION: dict[str, Any] = {
    "_target_": "meow_lightning.evaluation.continuation.Continuations", "format": "plain", "prompt_tokens": 4,
    "new_tokens": 6, "compared": "continuation", "features": None, "mauve_scaling_factor": 5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "named", "suggested"),
    [
        ({"prompt_token": 4}, "ability.local.nlg.prompt_token", "prompt_tokens"),
        ({"prompt_tokens": 0}, "ability.local.nlg.prompt_tokens=0", "1"),
        ({"format": "wikitxt"}, "ability.local.nlg.format=wikitxt", "wikitext"),
        ({"new_tokens": None}, "ability.local.nlg.new_tokens", ""),
        ({"_target_": "meow_lightning.evaluation.continuation.Passage"}, "ability.local.nlg", ""),
        ({"_target_": "json.JSONDecoder"}, "json.JSONDecoder", "trusted_packages=[json]"),
    ],
)
def test_a_mistake_names_its_option(changes: dict[str, Any], named: str, suggested: str) -> None:
    assert isinstance(own_task("ability.local.nlg", DEFINITION, allow=()), Continuations)
    with pytest.raises(UserError) as caught:
        own_task("ability.local.nlg", DEFINITION | changes, allow=())
    assert named in str(caught.value)
    assert suggested in str(caught.value)
