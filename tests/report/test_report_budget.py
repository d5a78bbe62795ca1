from __future__ import annotations

from itertools import product

from helpers.sweeps import swept

from meow_lightning.report.budget import budget


def runs(**swept_words: str) -> list:
    options = {option.replace("__", "."): values.split(",") for option, values in swept_words.items()}
    return [
        swept(*(f"{option}={value}" for option, value in zip(options, values, strict=True)))
        for values in product(*options.values())
    ]


def test_tuned_options_are_counted_and_spelled() -> None:
    tuned = runs(seed="0", method="meow,kl", optim__lr="3e-4,1e-3", optim__epochs="5,12,24")
    said = "budget: 6 settings per method (optim.lr 3e-4, 1e-3 x optim.epochs 5, 12, 24), each on seed 0"
    assert budget(tuned) == said
    # the last run of meow and the last two of kl failed
    assert budget([*tuned[:5], *tuned[6:10]]) == f"{said}; fewer runs finished: meow 5 of 6 runs, kl 4 of 6 runs"


def test_seeds_and_methods_alone_are_no_tuning() -> None:
    assert budget(runs(seed="3,4,5", method="meow,none")) == ("budget: recipes as in conf, each on 3 seeds (3, 4, 5)")
    assert budget([swept("method=meow"), swept("method=none")]) == "budget: recipes as in conf, each on seed 0"


def test_places_are_not_tuned_either() -> None:
    assert budget(runs(model="phi15,tiny", dataset__split="forget01,forget05", method="meow,none")) == (
        "budget: recipes as in conf, for each of model phi15, tiny x dataset.split forget01, forget05, each on seed 0"
    )


def test_a_recipe_that_all_runs_were_given_is_not_that_of_conf() -> None:
    alike = runs(method="meow,npo", optim__lr="1e-3", method__select__k="2", logger="none", seed="3,4")
    assert budget(alike) == (
        "budget: recipes as in conf, with optim.lr=1e-3, method.select.k=2, each on 2 seeds (3, 4)"
    )


def test_a_run_that_was_run_twice_is_no_further_setting() -> None:
    assert budget(runs(seed="3,3", optim__lr="1,2")) == (
        "budget: 2 settings per method (optim.lr 1, 2), each on seed 3"
    )
