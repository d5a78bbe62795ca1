from __future__ import annotations

import pytest

import meow_lightning as meow
from meow_lightning.config.methods import build_method, constructor, file_of, method_names
from meow_lightning.errors import UserError


def test_every_file_has_a_constructor_by_its_name() -> None:
    assert len(method_names()) > 20
    assert {name for name in method_names() if constructor(name.replace("_", "").upper()) is None} == set()
    assert "GradAscent" in dir(meow.methods)


def test_options_that_are_not_given_are_those_of_the_file() -> None:
    assert meow.methods.NPO().beta == 0.1
    assert meow.methods.NPO(beta=0.5).beta == 0.5


@pytest.mark.parametrize("name", ["npo_gd", "npo", "simnpo", "meow"])
def test_a_method_leads_back_to_its_file(name: str) -> None:
    assert file_of(build_method(name)) == name


def test_a_class_without_a_file_has_none() -> None:
    assert file_of(object()) is None


@pytest.mark.parametrize(
    ("options", "named"), [({"bta": 1}, "bta"), ({"beta": -1}, "beta=-1"), ({"beta": "x"}, "beta=x")]
)
def test_a_wrong_option_is_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        build_method("npo", **options)


def test_an_option_of_the_training_is_no_argument_of_a_method() -> None:
    with pytest.raises(
        UserError, match=r"^refusals is no argument of the method flat .*options=\['method\.refusals=…'\]$"
    ):
        build_method("flat", refusals="refusals.txt")
