from __future__ import annotations

from helpers.sweeps import swept

from meow_lightning.evaluation.checkpoint_selection import Epoch
from meow_lightning.report.best_tries import best_tries
from meow_lightning.report.sweep_tables import Swept

COLUMNS = ("model_utility", "forget/value_accuracy")


def tried(method: str, rate: str, seed: int, utility: float) -> Swept:
    values = {"target": {}, "unlearned": {"model_utility": utility, "forget/value_accuracy": 0.25}, "retain": {}}
    return swept(f"seed={seed}", f"method={method}", f"optim.lr={rate}", "optim.epochs=24", values=values)


def epoch(utility: float, *, excess: float = 0.0) -> Epoch:
    return Epoch(step=8, utility=utility, log10_p=-0.5, excess_recall=excess)


def test_the_held_out_rows_choose_and_the_others_are_reported() -> None:
    runs = [tried(method, rate, seed, float(f"0.{seed}{rate}")) for method in ("npo", "meow") for seed in (3, 5)
            for rate in ("1", "2")]  # fmt: skip
    epochs = {run.name: (4, epoch(0.5)) for run in runs}
    epochs[runs[1].name] = (7, epoch(0.6))  # npo, seed 3, rate 2: more utility
    epochs[runs[2].name] = (2, epoch(0.9, excess=0.3))  # npo, seed 5, rate 1: says too many of the answers
    epochs[runs[6].name] = (9, epoch(0.4))  # meow, seed 5, rate 1
    found = best_tries(runs, epochs, COLUMNS)
    assert found is not None
    head, *rows = found[1]
    assert head[:3] == ["run", "tries", "best try"]
    assert [row[:3] for row in rows] == [
        ["method=npo optim.epochs=24", "2", "lr=2, epoch 7; lr=2, epoch 4"],
        ["method=meow optim.epochs=24", "2", "lr=1, epoch 4; lr=2, epoch 4"],  # of equal ones the first
    ]
    assert [row[3:] for row in rows] == [["0.420", "0.250"], ["0.415", "0.250"]]


def test_runs_without_a_selected_epoch_are_left_out() -> None:
    runs = [tried("npo", "1", 3, 0.1), tried("npo", "2", 3, 0.2), tried("none", "1", 3, 0.9)]
    assert best_tries(runs, {}, COLUMNS) is None
    found = best_tries(runs, {run.name: (1, epoch(0.5)) for run in runs[:2]}, COLUMNS)
    assert found is not None
    assert [row[0] for row in found[1][1:]] == ["method=npo optim.epochs=24"]


def test_one_try_is_not_compared() -> None:
    runs = [tried("npo", "1", 3, 0.1), tried("npo", "1", 4, 0.1), tried("meow", "1", 3, 0.2)]
    assert best_tries(runs, {run.name: (1, epoch(0.5)) for run in runs}, COLUMNS) is None
