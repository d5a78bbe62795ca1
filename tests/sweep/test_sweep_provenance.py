from __future__ import annotations

import json
from pathlib import Path

from helpers.sweeps import swept

from meow_lightning.pipeline.build import graph
from meow_lightning.report.sweep_cost import Cost
from meow_lightning.store.integrity import MANIFEST
from meow_lightning.store.store import Store
from meow_lightning.sweep import provenance
from meow_lightning.sweep.provenance import processor, provenance_line, sweep_provenance, unlearning_cost


def test_tables_name_the_code_and_the_machine_of_the_results_that_they_rest_on(tmp_path: Path) -> None:
    run = swept("method=grad_ascent", "seed=3", store=str(tmp_path))
    store, artifacts = Store(root=tmp_path, cache="use"), [*graph(run.config).results.walk()]
    for number, artifact in enumerate(artifacts[:2]):
        folder = store.path(artifact)
        folder.mkdir(parents=True)
        manifest = {
            "key": artifact.key, "commit": f"{number}" * 40, "dirty": bool(number), "threads": 1 + number,
            "host": "h", "finished": 86400.0 * number,
        }  # fmt: skip
        (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    graphs, stores = {run.name: graph(run.config)}, {run.name: store}
    made = sweep_provenance([run, run], graphs=graphs, stores=stores, command="python run.py sweep=x")
    assert made["stages"] == {
        "commits": ["0000000", "1111111+"], "threads": [1, 2], "hosts": ["h"], "from": "1970-01-01", "to": "1970-01-02",
    }  # fmt: skip
    assert (made["seeds"], made["results"], made["runs"]) == ([3], 2, {run.name: graph(run.config).results.key})
    assert provenance_line(made) == (
        f"made by `python run.py sweep=x` on {made['date']} from 2 results of 1970-01-01 to 1970-01-02 "
        f"(code: 0000000, 1111111+; threads: 1, 2; seeds: 3; {processor()})"
    )


def test_unlearning_costs_what_lies_between_target_and_unlearned_model(tmp_path: Path) -> None:
    made = graph(swept("method=meow", store=str(tmp_path)).config)
    store, target = Store(root=tmp_path, cache="use"), {each.key for each in made.models.target.walk()}
    for artifact in made.results.walk():
        (folder := store.path(artifact)).mkdir(parents=True)
        manifest = {"key": artifact.key, "seconds": 1000.0 if artifact.key in target else 1.0, "flops": 2.0}
        (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    # propose, filter, the candidates' scores, unlearn
    assert unlearning_cost(store, made) == Cost(flops=8.0, seconds=4.0, memory_mib=None)
    nothing = graph(swept("method=none", store=str(tmp_path)).config)
    assert unlearning_cost(store, nothing) is None


def test_a_processor_is_named_as_the_system_does(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Fast 9000\n", encoding="utf-8")
    monkeypatch.setattr(provenance, "CPU_INFO", file)
    assert processor() == "Fast 9000"
    monkeypatch.setattr(provenance, "CPU_INFO", tmp_path / "none")
    assert processor()
