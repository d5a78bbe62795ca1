from __future__ import annotations

from typing import Literal

import pytest
from helpers import hydra
from helpers.hydra import options, with_values

from meow_lightning.config.instantiate import component_class, instantiate
from meow_lightning.config.mistakes import accepts
from meow_lightning.config.signature import checked_type
from meow_lightning.config.validation import resolved
from meow_lightning.errors import UserError, mistakes_of

RULES = {"_target_": "meow_lightning.inversion.rules.Rules", "candidates": 4, "seed": 0}


def mistakes(**values: object) -> tuple[str, ...]:
    """The mistakes of the default run with other values; a double underscore stands for a dot."""
    with pytest.raises(UserError) as caught:
        with_values(options(), {name.replace("__", "."): value for name, value in values.items()})
    return mistakes_of(caught.value)


def test_a_missing_argument_is_reported():
    rules = "meow_lightning.inversion.rules.Rules"
    assert mistakes(inversion__seed=...) == (f"inversion.seed is missing: {rules} requires it",)


def test_an_unknown_argument_is_reported_with_the_nearest():
    (line,) = mistakes(inversion__candidate=3)
    assert line.startswith("inversion.candidate is not an option of meow_lightning.")
    assert line.endswith("Did you mean candidates?")


@pytest.mark.parametrize("value", ["four", 4.5, True, None, [4]])
def test_an_argument_of_the_wrong_type_is_reported(value):
    assert mistakes(inversion__candidates=value) == (
        f"inversion.candidates={value} is invalid: expected an integer",
    )  # fmt: skip


def test_all_mistakes_are_reported_at_once():
    found = mistakes(
        seed="one", optim__lr=7, method__select__k=0, method__select__strategy="largst", trainer__device=2,
        inversion__candidates=0, dataset__authors="many", model__prompt__date=..., memo__stride=0,
        method__lr={"default": 2, "tiny": "slow"},
    )  # fmt: skip
    assert set(found) == {
        "seed=one is invalid: expected an integer",
        "dataset.authors=many is invalid: expected an integer",
        "model.prompt.date is missing",
        "method.select.k=0 is invalid: expected a number from 1 to 1,000,000,000",
        "method.select.strategy=largst is invalid: expected one of largest, smallest, random. Did you mean largest?",
        "method.lr.default=2 is invalid: expected a number from 0 to 1",
        "method.lr.tiny=slow is invalid: expected a number or null",
        "inversion.candidates=0 is invalid: expected a number from 1 to 1,000,000,000",
        "memo.stride=0 is invalid: expected a number from 1 to 1,000,000,000",
        "optim.lr=7 is invalid: expected a number from 0 to 1",
        "trainer.device is not an option. Did you mean devices?",
    }


def test_of_an_interpolated_value_only_the_source_is_reported():
    with pytest.raises(UserError, match=r"^seed=-1 is invalid: expected a number from 0 to 2,147,483,647$"):
        options("seed=-1")


def test_required_options_are_reported_with_the_other_mistakes():
    with pytest.raises(UserError) as caught:
        options("inversion=local", "dataset=jsonl", "limit=0", small=())
    assert mistakes_of(caught.value) == (
        "dataset.forget is required: set it on the command line, as in dataset.forget=…",
        "inversion.model is required: set it on the command line, as in inversion.model=…",
        "limit=0 is invalid: expected a number from 1 to 1,000,000,000",
    )


def test_valid_options_keep_their_values_and_their_order():
    cfg = hydra.composed("optim.weight_decay=0", "optim.lr=1")
    plain = resolved(cfg).plain()
    assert (plain["optim"]["weight_decay"], plain["optim"]["lr"]) == (0, 1)
    assert isinstance(plain["optim"]["lr"], int)
    assert {name: list(plain[name]) for name in ("method", "optim")} == {
        name: list(cfg[name]) for name in ("method", "optim")
    }


def test_the_parts_of_a_component():
    method = options("method=altpo").method
    assert method.keyed == {
        "_target_": "meow_lightning.methods.altpo.AltPo", "beta": 0.1, "retain": "ce", "retain_weight": 1.0,
    }  # fmt: skip
    assert method.select is not None and method.select.k == 3
    inversion = options("inversion=endpoint", "inversion.model=m", "inversion.base_url=http://localhost/v1").inversion
    assert inversion.prompt is not None
    assert inversion.keyed["prompt"]["version"] == inversion.prompt.version


def test_a_component_of_the_user_is_checked_by_its_signature(tmp_path, monkeypatch):
    (tmp_path / "own_methods.py").write_text(
        "from typing import Annotated\n"
        "from meow_lightning.config.ranges import Range\n"
        "from meow_lightning.methods.grad_ascent import GradAscent\n"
        "class Own(GradAscent):\n"
        "    def __init__(self, *, share: Annotated[float, Range(0, 1)], other: float = 1.0) -> None: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    node = {"name": "own", "_target_": "own_methods.Own", "share": 0.5, "lr": 0.1, "epochs": 1, "global_batch_size": 2}
    changed = {"method": node, "trusted_packages": ["own_methods"]}
    assert with_values(options(), changed).method.arguments == {"share": 0.5}
    for share, said in ((2, "from 0 to 1"), (float("nan"), "from 0 to 1"), ("much", "a number$")):
        with pytest.raises(UserError, match=rf"^method.share={share} is invalid: expected .*{said}"):
            with_values(options(), {**changed, "method": {**node, "share": share}})
    with pytest.raises(UserError, match=r"^method.other=inf is invalid: expected a finite number"):
        with_values(options(), {**changed, "method": {**node, "other": float("inf")}})


@pytest.mark.parametrize("path", ["os.system", "builtins.eval", "meow_lightningx.a", "subprocess.run", "os"])
def test_targets_outside_the_project_are_refused(path):
    package = path.split(".")[0]
    with pytest.raises(
        UserError,
        match=rf"^_target_={path} is invalid: expected .* of meow_lightning; .* trusted_packages=\[{package}\]$",
    ):
        component_class({"_target_": path}, allow=[])


def test_the_user_may_allow_a_package_by_its_whole_name():
    import collections

    assert component_class({"_target_": "collections.Counter"}, allow=["collections"]) is collections.Counter
    with pytest.raises(UserError, match=r"a callable of meow_lightning or col;"):
        component_class({"_target_": "collections.Counter"}, allow=["col"])


@pytest.mark.parametrize(
    "path", ["meow_lightning.nothing.Here", "meow_lightning.inversion.rules.Rulez", "meow_lightning"]
)
def test_missing_targets_are_reported(path):
    with pytest.raises(UserError, match=rf"^_target_={path} cannot be imported"):
        component_class({"_target_": path}, allow=[])


def test_build_refuses_too_and_never_builds_nested_nodes():
    with pytest.raises(UserError, match=r"a callable of meow_lightning;"):
        instantiate({"_target_": "os.system", "command": "true"}, allow=[])
    with pytest.raises(UserError, match=r"^inversion.seed=\{'_target_': 'os.system'.* is invalid: expected an integer"):
        instantiate({**RULES, "candidates": 1, "seed": {"_target_": "os.system", "command": "true"}}, allow=[])


def test_a_mistake_found_while_building_keeps_its_own_words():
    with pytest.raises(UserError, match=r"^inversion.candidates=0 is invalid: expected a number from 1 to 1,000,"):
        instantiate({**RULES, "candidates": 0}, allow=[])


@pytest.mark.parametrize(
    ("value", "hint", "fit"),
    [
        (1, int, True), (True, int, False), (1.0, int, False), ("1", int, False), (None, int, False),
        (1, float, True), (1.5, float, True), (True, float, False), ("1", float, False),
        ("a", str, True), (1, str, False), (True, bool, True), (1, bool, False),
        (None, float | None, True), (2, float | None, True), ("x", float | None, False),
        ("a", Literal["a", "b"], True), ("c", Literal["a", "b"], False),
        ([1, 2.5], list[float], True), (["x"], list[float], False), (3, list[float], False), ([], list[str], True),
        ([1, 2, 3], tuple[int, ...], True), ([1, "x"], tuple[int, ...], False), ("ab", list[str], False),
        ({"a": 1}, object, True),
    ],
)  # fmt: skip
def test_fits(value, hint, fit):
    assert accepts(value, checked_type(hint)) is fit


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"method.select.rows": ..., "method.select.k": ...},
            "method.select.k is missing; this method selects no inverted facts, so set no option of method.select; "
            "without it, experiment=published_memo is memo=official",
        ),
        ({"method.select.rows": ...}, "method.select.rows is missing"),
        ({"method.select.kk": 3}, "method.select.kk is not an option. Did you mean k?"),
        ({"method.select.rows": "all"}, "method.select.rows=all is invalid: expected one of selected, official"),
        (
            {"method.select": 3},
            "method.select=3 is invalid: expected a group of the options k, strategy, rows, baseline",
        ),
        ({"optim.lr": "fast"}, "optim.lr=fast is invalid: expected a number or null"),
        ({"optim.betas": [0.9]}, "optim.betas=[0.9] is invalid: expected a list [a number, a number]"),
        ({"sede": 3}, "sede is not an option. Did you mean seed?"),
    ],
)
def test_a_group_is_held_to_its_types(values, text):
    with pytest.raises(UserError) as caught:
        with_values(options(), values)
    assert mistakes_of(caught.value)[0] == text
