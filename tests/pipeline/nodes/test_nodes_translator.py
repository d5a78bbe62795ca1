"""The language model that translates in the graph of a run: keys, the plan, and mistakes before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.hydra import cell, keys, options

from meow_lightning.errors import UserError
from meow_lightning.evaluation.subject import Subject
from meow_lightning.pipeline.nodes.context import dataset_of
from meow_lightning.planning.pending_requests import pending_requests

OPTION = "attacks.translation.translator"
SERVER = (
    "attacks=translation", f"translator@{OPTION}=endpoint", f"{OPTION}.base_url=http://localhost:8000/v1",
    f"{OPTION}.model=zephyr",
)  # fmt: skip


def test_every_model_is_asked_the_same_translations_and_nothing_else_moves() -> None:
    plain, made = cell(), cell(*SERVER)
    (translated,) = made.translations
    readers = [each for each in made.evaluation.to_needs().values() if "translations" in each.needs]
    assert {each.needs["translations"].key for each in readers} == {translated.key}
    assert {str(Subject(role, "translation")) for role in ("target", "retain", "unlearned")} <= {
        each.label for each in readers
    }
    before, after = keys(plain), keys(made)
    assert {name for name in before if before[name] != after[name]} == {"results", "report"}
    assert [each.stage for each in made.goal("translate")] == ["translate"]
    with pytest.raises(UserError, match="goal=translate translates nothing without a model"):
        plain.goal("translate")


def test_its_key_follows_from_model_texts_and_languages_but_not_from_its_place_and_limits() -> None:
    def key(*more: str) -> str:
        return cell(*SERVER, *more).translations[0].key

    unkeyed = ("max_requests=9", "max_total_tokens=9", "concurrency=2", "base_url=http://localhost:9/v1")
    assert {key(f"{OPTION}.{each}") for each in unkeyed} == {key()}
    keyed = ("model=other", "languages=[Spanish]", "questions=all", "prompt.version=2", "temperature=1")
    assert len({key(), *(key(f"{OPTION}.{each}") for each in keyed)}) == 1 + len(keyed)


def test_the_plan_bounds_the_requests() -> None:
    given = (*SERVER, f"{OPTION}.languages=[French,Spanish]")
    dataset = dataset_of(options(*given))[0]
    facts = len(dataset.facts("forget"))
    assert pending_requests(options(*given), dataset, cell(*given).translations) == [("zephyr", 0, 2 * facts, 96)]
    given = (*given, f"{OPTION}.max_requests=3")
    assert pending_requests(options(*given), dataset, cell(*given).translations) == [("zephyr", 0, 3, 96)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("attacks=translation",), r"attacks\.translation\.path=null is invalid: .*translator@"),
        ((*SERVER, "attacks.translation.path=x.jsonl"), r"attacks\.translation\.path and .*both give translations"),
        ((*SERVER, f"{OPTION}.languages=[]"), r"translator\.languages=\[\] is invalid"),
        ((*SERVER, f"{OPTION}.languages=[French,french]"), r"translator\.languages=.* is invalid"),
        ((*SERVER, f"{OPTION}.questions=some"), r"translator\.questions=some is invalid"),
        ((*SERVER, f"{OPTION}.prompt.user='Now.'"), rf"{OPTION}\.prompt\.user must contain {{question}}"),
        (("attacks=translation", f"{OPTION}=local"), rf"{OPTION}=local is invalid: .* translator@{OPTION}=local"),
        (("attacks=prefix", "+translator@attacks.prefix.translator=endpoint", "attacks.prefix.translator.model=m",
          "attacks.prefix.translator.base_url=http://a/v1"), r"attacks\.prefix\.translator=endpoint has no effect"),
    ],
)  # fmt: skip
def test_mistakes_are_named_by_the_option_of_the_run(given: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        cell(*given)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    given = ("attacks=translation", f"translator@{OPTION}=local", f"{OPTION}.model={tmp_path / 'gone'}")
    with pytest.raises(UserError, match=rf"{OPTION}\.model="):
        cell(*given)
