from __future__ import annotations

from pathlib import Path

import pytest

from meow_lightning.errors import UserError
from meow_lightning.report.seed_spread import FOLDER, Spread, read_spreads, rows, settings_digest, spread_sentence
from meow_lightning.types import Results

SPREAD = Spread(
    made="2026-11-29, torch 2", command="python run.py sweep=tiny_seeds", seeds=[0, 1, 2],
    numbers={"model_utility": [0.5, 0.6, 0.7], "memo/answers": [0.2, 0.25, 0.3]},
    intervals={"model_utility": [0.55, 0.65]},
)  # fmt: skip


def here(**values: float) -> Results:
    return Results(definitions=(), values={"unlearned": values})


def test_a_run_is_compared_with_mean_and_range_of_other_seeds_by_hand() -> None:
    _, *found = rows(here(model_utility=0.6, **{"memo/answers": 0.31}), SPREAD)
    assert found == [
        ["model utility", "0.600", "0.600", "0.500 to 0.700", "0.550 to 0.650", "inside"],
        ["memo answers", "0.310", "0.250", "0.200 to 0.300", "", "outside"],
    ]


def test_the_closing_line_names_numbers_outside_the_range() -> None:
    assert spread_sentence(here(model_utility=0.7), SPREAD) == (
        "over 3 seeds, mean (lowest to highest): model utility 0.600 (0.500 to 0.700); this run lies inside"
    )
    assert spread_sentence(here(model_utility=0.71), SPREAD).endswith("; this run lies outside in model utility")


def test_settings_are_named_without_their_seeds_and_with_the_versions_of_stages() -> None:
    one = {"seed": 1, "dataset": {"seed": 1, "name": "fictional"}, "optim": {"lr": 0.1}}
    other = {"seed": 2, "dataset": {"seed": 2, "name": "fictional"}, "optim": {"lr": 0.1}}
    assert settings_digest(one, [("answer", 1)]) == settings_digest(other, [("answer", 1), ("answer", 1)])
    assert settings_digest(one, [("answer", 1)]) != settings_digest(one, [("answer", 2)])
    assert settings_digest(one, []) != settings_digest({**one, "optim": {"lr": 0.2}}, [])


def test_files_in_the_folder_can_be_read() -> None:
    for known in read_spreads(FOLDER).values():
        assert all(len(values) == len(known["seeds"]) for values in known["numbers"].values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not valid YAML"),
        ("made: x", "must contain made, command and runs"),
        ("{made: x, command: y, runs: {all: {settings: abc}}}", r"runs.all.seeds is missing; a sweep over seeds"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=rf"mine.yaml.*{message}"):
        read_spreads(tmp_path)
