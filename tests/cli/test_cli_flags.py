from __future__ import annotations

import pytest

from meow_lightning.cli.flags import split_flags
from meow_lightning.errors import UserError


@pytest.mark.parametrize(
    ("typed", "words", "flags"),
    [
        ("seed=1 --cfg job model.base=x", "seed=1 model.base=x", "--cfg job"),
        ("-m seed=0,1", "seed=0,1", "-m"),
        ("seed=0,1 --multirun --resolve", "seed=0,1", "--multirun --resolve"),
        ("--info seed=1", "seed=1", "--info"),
        ("--info defaults seed=1", "seed=1", "--info defaults"),
        ("-c job -p model", "", "-c job -p model"),
        ("--cfg=job seed=1", "seed=1", "--cfg=job"),
        ("-cjob seed=1", "seed=1", "-cjob"),
        ("seed", "seed", ""),
        ("", "", ""),
    ],
)
def test_flags_and_words_may_stand_in_any_order(typed, words, flags):
    assert split_flags(typed.split()) == (words.split(), flags.split())


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--cfg", "--cfg requires a value: expected one of job, hydra, all"),
        ("--cfg -m", "--cfg requires a value: expected one of job, hydra, all"),
        ("--package", "--package requires a value"),
        ("--cfg al", "--cfg=al is invalid: expected one of job, hydra, all. Did you mean all?"),
        ("--cfgs job", "--cfgs is not a flag. Did you mean --cfg? (options have the form name=value, see --help)"),
        (
            "--install-completon",
            "--install-completon is not a flag. Did you mean --install-completion? (options have "
            "the form name=value, see --help)",
        ),
        ("--seed=3", "--seed=3 is not a flag. Did you mean seed=…? (options have the form name=value, see --help)"),
    ],
)
def test_flags_that_cannot_be(typed, said):
    with pytest.raises(UserError) as caught:
        split_flags(typed.split())
    assert str(caught.value) == said
