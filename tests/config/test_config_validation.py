from __future__ import annotations

from typing import Literal

import pytest
from omegaconf import OmegaConf

from meow_lightning.config import schema
from meow_lightning.config.instantiate import component_arguments, component_class, instantiate
from meow_lightning.config.validation import check_call, check_types, has_type, resolved
from meow_lightning.errors import UserError

RULES = {"name": "rules", "_target_": "meow_lightning.inversion.rules.Rules", "candidates": 4, "seed": 0}


def test_a_whole_call_gives_the_class():
    from meow_lightning.inversion.rules import Rules

    assert check_call("inversion", RULES, allow=[]) is Rules


def test_a_missing_argument_is_reported():
    with pytest.raises(
        UserError, match=r"^inversion.seed is missing: meow_lightning.inversion.rules.Rules requires it$"
    ):
        check_call("inversion", {key: value for key, value in RULES.items() if key != "seed"}, allow=[])


def test_an_unknown_argument_is_reported_with_the_nearest():
    with pytest.raises(
        UserError,
        match=r"^inversion.candidate is not an option of meow_lightning\S+Rules. Did you mean candidates\?",
    ):
        check_call("inversion", {**RULES, "candidate": 3}, allow=[])


@pytest.mark.parametrize("value", ["four", 4.5, True, None, [4]])
def test_an_argument_of_the_wrong_type_is_reported(value):
    with pytest.raises(UserError, match=r"^inversion.candidates=.* is invalid: expected an integer$"):
        check_call("inversion", {**RULES, "candidates": value}, allow=[])


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
    nested = instantiate({**RULES, "candidates": 1, "seed": {"_target_": "os.system", "command": "true"}}, allow=[])
    assert nested.seed == {"_target_": "os.system", "command": "true"}


def test_a_mistake_found_while_building_keeps_its_own_words():
    with pytest.raises(
        UserError, match=r"^inversion.candidates=0 is invalid: expected an integer of at least 1\. Did you mean 1\?$"
    ):
        instantiate({**RULES, "candidates": 0}, allow=[])


def test_a_recipe_is_not_handed_to_the_target():
    node = {
        "_target_": "x",
        "name": "n",
        "lr": {},
        "epochs": 1,
        "global_batch_size": 2,
        "select": {},
        "verify": 3,
        "retain_weight": 1.0,
    }
    assert component_arguments(node) == {"retain_weight": 1.0}


@pytest.mark.parametrize(
    ("value", "hint", "fit"),
    [
        (1, int, True), (True, int, False), (1.0, int, False), ("1", int, False), (None, int, False),
        (1, float, True), (1.5, float, True), (True, float, False), ("1", float, False),
        ("a", str, True), (1, str, False), (True, bool, True), (1, bool, False),
        (None, float | None, True), (2, float | None, True), ("x", float | None, False),
        ("a", Literal["a", "b"], True), ("c", Literal["a", "b"], False),
        ([1, 2.5], list[float], True), (["x"], list[float], False), (3, list[float], False), ([], list[str], True),
        ([0.9, 0.95], tuple[float, float], True), ([0.9], tuple[float, float], False), (3, tuple[float, float], False),
        ([1, 2, 3], tuple[int, ...], True), ([1, "x"], tuple[int, ...], False), ("ab", list[str], False),
        ({"a": 1}, object, True),
    ],
)  # fmt: skip
def test_fits(value, hint, fit):
    assert has_type(value, hint) is fit


SELECT = {"k": 3, "strategy": "largest", "rows": "selected"}


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ({"k": 3, "strategy": "largest"}, "^method.select.rows is missing$"),
        ({**SELECT, "kk": 3}, r"^method.select.kk is not an option. Did you mean k\?$"),
        ({**SELECT, "k": "three"}, "^method.select.k=three is invalid: expected an integer$"),
        ({**SELECT, "rows": "all"}, "^method.select.rows=all is invalid: expected one of selected, official$"),
    ],
)
def test_a_typed_group_is_held_to_its_types(node, text):
    check_types("method.select", SELECT, schema.Select)
    with pytest.raises(UserError, match=text):
        check_types("method.select", node, schema.Select)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("lr", "fast", "^optim.lr=fast is invalid: expected a number or null$"),
        ("betas", [0.9], r"^optim.betas=\[0.9\] is invalid: expected a list \[a number, a number\]$"),
    ],
)
def test_plain_checks_typed_groups(key, value, text):
    whole = {
        "name": "adamw", "checkpoint": "last", "optimizer": "adamw", "lr": None, "epochs": 3,
        "global_batch_size": None, "batch_tokens": None, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.0,
        "max_grad_norm": 1.0, "warmup": 5, "schedule": "linear",
    }  # fmt: skip
    assert resolved(OmegaConf.create({"seed": 0, "optim": whole}))["optim"] == whole
    with pytest.raises(UserError, match=text):
        resolved(OmegaConf.create({"seed": 0, "optim": {**whole, key: value}}))


def test_plain_refuses_unused_options_and_a_value_for_a_group():
    with pytest.raises(UserError, match=r"^sede is not an option. Did you mean seed\?$"):
        resolved(OmegaConf.create({"sede": 3}))
    with pytest.raises(
        UserError, match=r"^method.select=3 is invalid: expected a group of the options k, strategy, rows$"
    ):
        resolved(OmegaConf.create({"method": {"select": 3}}))
