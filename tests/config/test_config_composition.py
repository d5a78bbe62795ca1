from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from meow_lightning.config.composition import compose_options, library_options, words_of
from meow_lightning.config.files import CONF
from meow_lightning.errors import UserError, mistakes_of


def test_options_are_those_of_the_command_line() -> None:
    options = compose_options(["method=npo", "optim.lr=0.5"])
    assert (options.method.name, options.model.name, options.optim.lr) == ("npo", "tiny", 0.5)
    assert compose_options(["model.target=./my-model"]).model.name == "own"
    assert library_options([]).model.name == "own"


def test_all_mistakes_are_shown_at_once() -> None:
    with pytest.raises(UserError) as error:
        compose_options(["optim.rl=1", "seed=-1", "memo.stride=0"])
    lines = mistakes_of(error.value)
    assert [line.partition("=")[0].split()[0] for line in lines] == ["optim.rl", "seed", "memo.stride"]


@pytest.mark.parametrize("word", ["optim.rl=1", "optim.lr=-1", "metod=npo", "optim.lr=fast", "method=nop"])
def test_a_wrong_word_is_one_line(word: str) -> None:
    with pytest.raises(UserError) as error:
        compose_options([word])
    assert "\n" not in str(error.value)


def test_a_program_with_its_own_hydra_keeps_it() -> None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF / "optim"), version_base="1.3"):
        compose_options(["seed=11"])
        with pytest.raises(UserError):
            compose_options(["seed=-11"])
        assert compose("adamw").name == "adamw"
    GlobalHydra.instance().clear()


def test_words_spell_values_for_the_command_line() -> None:
    values = {"path": "a, b=[c].jsonl", "on": True, "none": None, "names": ["x", "y"]}
    assert words_of("dataset", values) == ["dataset.path=a, b=[c].jsonl", "dataset.on=true", "dataset.names=[x,y]"]
    options = library_options(["dataset=jsonl", *words_of("dataset", {"forget": "a, b=[c].jsonl"})])
    assert options.dataset.arguments["forget"] == "a, b=[c].jsonl"
