from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from meow_lightning.config.composition import compose_options
from meow_lightning.errors import UserError
from meow_lightning.experiment import prepare
from meow_lightning.store.store import Store
from meow_lightning.sweep.listing import FOLDER, claim, may_be_stored, sweep_states
from meow_lightning.sweep.sweeper import combinations

SWEEPS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
ELSEWHERE = ("smollm2_methods", "smollm2_rates", "smollm2_selection", "smollm2_tofu", "paper_main_tofu")
SMALL = ["dataset.authors=12", "dataset.retain_eval=8", "model.pretrain.rows=30", "model.finetune.replay=2"]


def store_run(*words: str) -> None:
    """Put all results of a run into its store, without content."""
    options = compose_options(list(words))
    store = Store(root=Path(options.store), cache="use")
    for artifact in prepare(options)[1]:
        if store.manifest(artifact) is None:
            store.begin(artifact)
            store.finish(artifact, {})


def test_a_claim_is_the_comment_at_the_start_of_a_file():
    assert claim("# @package _global_\n# One\n# and two.\nhydra: {}\n# no claim\n") == "One and two."
    assert all(claim((FOLDER / f"{name}.yaml").read_text()).endswith(".") for name in SWEEPS)


def test_done_runs_are_those_whose_results_are_all_there(tmp_path: Path):
    words = [f"outputs={tmp_path}", *SMALL]
    (before,) = sweep_states(["ablation_memo"], words)
    assert (before.runs, before.done, before.missing, before.note) == (6, 0, 6, "")
    assert before.command.endswith(f" sweep=ablation_memo {' '.join(words)}")
    store_run("sweep=ablation_memo", "seed=4", "method=meow", "memo.mode=prefix", *words)
    (after,) = sweep_states(["ablation_memo"], words)
    assert (after.runs, after.done, after.missing) == (6, 1, 5)
    (one,) = sweep_states(["ablation_memo"], [*words, "seed=4", "memo.mode=prefix"])
    assert (one.runs, one.done, one.missing) == (1, 1, 0)
    (others,) = sweep_states(["ablation_memo"], [*words, "seed=0,1"])
    assert (others.runs, others.done) == (4, 0)
    (report,) = (tmp_path / "store" / "report").iterdir()
    report.rename(report.with_name("0123456789ab"))  # another result
    assert sweep_states(["ablation_memo"], words)[0].done == 0


def test_a_run_that_cannot_be_planned_is_missing_with_a_note(tmp_path: Path):
    words = [f"outputs={tmp_path}", *SMALL]
    store_run("method=none", "seed=3", *words)
    (state,) = sweep_states(["tiny_methods"], [*words, "dataset.split=forget99", "seed=3", "method=none"])
    assert (state.runs, state.done, state.note) == (1, 0, "")
    (state,) = sweep_states(["tiny_methods"], [*words, "trainer.threads=-1", "seed=3", "method=none"])
    assert state.done == 0
    assert state.note.startswith("1 runs cannot be planned here: trainer.threads=-1 is invalid")


@pytest.mark.parametrize("name", [name for name in SWEEPS if name not in ELSEWHERE])
def test_the_words_of_a_run_agree_with_the_options_of_its_report(name: str):
    params = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["hydra"]["sweeper"]["params"]
    runs = combinations([f"{key}={value}" for key, value in params.items()], None)
    last = prepare(compose_options([f"sweep={name}", *runs[-1]]))[0].report.settings["options"]
    assert may_be_stored(runs[-1], [last])
    assert not may_be_stored([*runs[-1][1:], "seed=99"], [last])


def test_an_option_that_does_not_exist_is_an_error():
    with pytest.raises(UserError, match=r"ouptuts is not an option\. Did you mean outputs\?"):
        sweep_states(["methods"], ["ouptuts=x"])
