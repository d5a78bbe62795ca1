from __future__ import annotations

import pytest

from meow_lightning.errors import UserError, check_choice, invalid_option, nearest, renaming, shorten_list, suggestion


def test_the_nearest_word_is_suggested():
    assert suggestion("meoww", ["grad_ascent", "meow"]) == ". Did you mean meow?"
    assert suggestion("zzz", ["grad_ascent", "meow"]) == ""


def test_lists_of_names_are_distinct_and_end_in_a_count():
    assert shorten_list(["a"]) == "a"
    assert shorten_list(["a", "b", "a"]) == "a, b"
    assert shorten_list(["a", "b", "c", "d"]) == "a, b and 2 more"


def test_options_are_renamed_in_errors_of_users_alone():
    with (
        pytest.raises(UserError, match=r"^attacks\.own\.path=x is missing$"),
        renaming(r"^attacks\.", "attacks.own."),
    ):
        raise UserError("attacks.path=x is missing")
    with pytest.raises(ValueError, match=r"^attacks\.path$"), renaming(r"^attacks\.", "attacks.own."):
        raise ValueError("attacks.path")


@pytest.mark.parametrize(
    ("given", "word"),
    [("forget11", "forget10"), ("forget5", "forget05"), ("FORGET1O", "forget10"), ("", None), (None, None), (5, None)],
)
def test_nearest_ignores_case_and_gives_up_on_what_is_not_similar(given, word):
    assert nearest(given, ("forget01", "forget05", "forget10")) == word


def test_an_invalid_option_names_the_expected_values():
    assert (
        str(invalid_option("optim.lr", -1, "a number above 0")) == "optim.lr=-1 is invalid: expected a number above 0"
    )
    error = invalid_option("model.lora.rank", 0, "an integer of at least 1", did_you_mean=1)
    assert str(error) == "model.lora.rank=0 is invalid: expected an integer of at least 1. Did you mean 1?"


def test_an_allowed_choice_is_returned():
    assert check_choice("goal", "score", iter(["score", "report"])) == "score"


def test_another_choice_is_refused_with_the_allowed_ones():
    with pytest.raises(
        UserError, match=r"^goal=reprot is invalid: expected one of score, report\. Did you mean report\?$"
    ):
        check_choice("goal", "reprot", ["score", "report"])
    with pytest.raises(UserError, match=r"^debug=yes is invalid: expected fast$"):
        check_choice("debug", "yes", ["fast"])
