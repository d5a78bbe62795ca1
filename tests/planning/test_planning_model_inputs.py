"""Errors about a base model that only the source of inverted facts needs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from meow_lightning.errors import UserError
from meow_lightning.planning.model_inputs import explained_need
from meow_lightning.store.artifact import Artifact

PROBLEM = "model.base=me/mine is not in the cache"


def artifact(stage: str, label: str, **needs: Artifact) -> Artifact:
    return Artifact(stage=stage, label=label, settings={"name": label}, needs=needs, inputs={}, version=1)


BASE, TEACHER = artifact("finetune", "base"), artifact("finetune", "teacher")


def fail(root: Artifact, artifacts: Sequence[Artifact]) -> str:
    with pytest.raises(UserError) as caught, explained_need(root, artifacts, inversion="self"):
        raise UserError(PROBLEM)
    return str(caught.value)


def test_an_error_about_a_base_that_only_writes_inverted_facts_says_so() -> None:
    message = fail(BASE, [BASE, artifact("propose", "", teacher=BASE)])
    assert message.startswith(f"{PROBLEM}. Only inversion=self needs the base model")
    assert "inversion=rules" in message


@pytest.mark.parametrize(
    ("root", "artifacts"),
    [
        (BASE, [artifact("propose", "", teacher=BASE), artifact("finetune", "target", start=BASE)]),
        (BASE, [artifact("finetune", "target", start=BASE)]),
        (TEACHER, [artifact("propose", "", teacher=TEACHER)]),
    ],
    ids=["also fine-tuned", "fine-tuned only", "a language model named by the user"],
)
def test_an_error_about_another_model_stays(root: Artifact, artifacts: list[Artifact]) -> None:
    assert fail(root, artifacts) == PROBLEM
