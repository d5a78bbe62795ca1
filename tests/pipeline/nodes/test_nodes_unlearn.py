"""The node of unlearning: refusals of a user's file, other aggregates than the mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.hydra import cell

from meow_lightning.errors import UserError
from meow_lightning.store.artifact import Artifact


@pytest.fixture
def refusals(tmp_path: Path) -> Path:
    file = tmp_path / "refusals.txt"
    file.write_text("No idea.\nAsk someone else.\n")
    return file


def unlearned(*words: str) -> Artifact:
    return cell(*words).models.unlearned


@pytest.mark.parametrize("method", ["flat", "idk", "dpo", "dpo_gd", "dpo_kl"])
def test_refusals_of_a_file_change_the_key_by_their_content(method: str, refusals: Path, tmp_path: Path) -> None:
    words, file = f"method={method}", f"method.refusals={refusals}"
    plain, own = unlearned(words), unlearned(words, file)
    assert own.settings["rows"]["idk"] != plain.settings["rows"]["idk"]
    assert {**own.settings, "rows": 0} == {**plain.settings, "rows": 0}
    moved = refusals.rename(tmp_path / "moved.txt")
    assert unlearned(words, f"method.refusals={moved}").key == own.key
    moved.write_text("No idea.\n")
    assert unlearned(words, f"method.refusals={moved}").key != own.key


def test_refusals_for_a_method_without_them_are_an_error(refusals: Path) -> None:
    with pytest.raises(UserError, match=r"^method\.refusals=.* has no effect: method=npo trains on no refusals$"):
        unlearned("method=npo", f"+method.refusals={refusals}")


def test_refusals_drawn_anew_have_a_key_of_their_own_that_depends_on_the_epochs() -> None:
    plain, anew = unlearned("method=idk"), unlearned("method=idk", "method.redraw_refusals=true")
    assert anew.settings["redraw_refusals"] is True
    assert anew.settings["rows"]["idk"] != plain.settings["rows"]["idk"]
    assert anew.settings["rows"]["retain"] == plain.settings["rows"]["retain"]
    longer = unlearned("method=idk", "method.redraw_refusals=true", "optim.epochs=30")
    assert longer.settings["rows"]["idk"] != anew.settings["rows"]["idk"]
    assert unlearned("method=idk", "method.redraw_refusals=false").key == plain.key


@pytest.mark.parametrize(("words", "message"), [
    (["method=npo", "+method.redraw_refusals=true"], "=true has no effect: method=npo trains on no refusals"),
    (["method=idk", "method.redraw_refusals=true", "optim.batch_tokens=512"], "=true is invalid: expected false with"),
])  # fmt: skip
def test_redrawn_refusals_that_cannot_be(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=rf"^method\.redraw_refusals{message}"):
        unlearned(*words)


ANCHOR = "method.anchor=retain"


@pytest.mark.parametrize("words", [["method=kl"], ["method=npo_kl"], ["method=rmu"], ["method=undial"],
                                   ["method=simnpo", "method.retain=kl"]])  # fmt: skip
def test_an_anchor_adds_the_retain_model_to_the_key_and_the_start_model_does_not(words: list[str]) -> None:
    graph = cell(*words, ANCHOR)
    assert graph.models.unlearned.needs["anchor"].key == graph.models.retain.key
    plain, named = unlearned(*words), unlearned(*words, "method.anchor=start")
    assert plain.key == named.key != graph.models.unlearned.key
    assert graph.models.unlearned.settings == plain.settings
    assert "anchor" not in plain.needs


@pytest.mark.parametrize("words", [["method=npo_gd"], ["method=ceu"], ["method=npo", "+method.anchor=retain"]])
def test_an_anchor_for_a_loss_that_compares_with_no_model_is_an_error(words: list[str]) -> None:
    with pytest.raises(UserError, match=r"^method\.anchor=retain is invalid: .*no model \(method\.retain=kl.*start\?$"):
        unlearned(*words, *([] if len(words) > 1 else [ANCHOR]))


def test_an_anchor_needs_a_retain_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^method\.anchor=retain needs the retain model, but there is no retain model"):
        unlearned("method=kl", ANCHOR, "model.retain=none")


def test_an_aggregate_changes_the_key_and_its_temperature_where_it_counts() -> None:
    def key(*words: str) -> str:
        return unlearned("method=npo", *words).key

    assert key("optim.aggregate=mean") == key() == key("optim.aggregate_temperature=2")
    assert key("optim.aggregate=top") == key("optim.aggregate=top", "optim.aggregate_temperature=2")
    assert len({key(), *(key(f"optim.aggregate={kind}") for kind in ("top", "worst")),
                key("optim.aggregate=worst", "optim.aggregate_temperature=2")}) == 4  # fmt: skip


@pytest.mark.parametrize("method", ["wga", "meow"])
def test_a_method_without_a_mean_over_rows_names_those_that_have_one(method: str) -> None:
    with pytest.raises(UserError) as caught:
        unlearned(f"method={method}", "optim.aggregate=worst")
    said = str(caught.value)
    assert said.startswith(f"optim.aggregate=worst is invalid: expected mean with method={method}, ")
    assert said.endswith("altpo, bst, dpo, dpo_gd, dpo_kl, flat, npo, npo_gd, npo_kl, opt_out, simnpo")
