from __future__ import annotations

from dataclasses import replace

import pytest
from test_pipeline import options

from meow_lightning.cellmodels import dataset_of
from meow_lightning.pipeline import graph
from meow_lightning.preflight import Known, Preflight
from meow_lightning.store import Store


@pytest.fixture
def looking(tmp_path, monkeypatch):
    """(a preflight, what its cell makes, the stages whose stored manifests were read)."""
    chosen = options("method=grad_ascent", f"outputs={tmp_path}")
    made, store = graph(chosen), Store(root=tmp_path / "store", cache="use")
    read: list[str] = []
    manifests = Known._read
    monkeypatch.setattr(Known, "_read", lambda self, stage: read.append(stage) or manifests(self, stage))
    known = Known(trainer=chosen["trainer"], store=store)
    found = Preflight(chosen, dataset=dataset_of(chosen)[0], streams=made.streams, known=known)
    return found, made.artifacts, read


def keep(store: Store, artifact, **facts) -> None:
    store.begin(artifact)
    store.finish(artifact, facts)


def test_a_run_reads_no_manifest_of_other_cells_and_a_plan_reads_each_once(looking):
    preflight, made, read = looking
    preflight.fetch(list(made.values()))
    preflight.check(list(made.values()))
    assert preflight.remark(made["unlearned"])["flops"] > 0
    assert read == []
    for _ in range(2):
        preflight.time(made["unlearned"])
    assert read == ["unlearn"]


def test_time_is_that_of_the_stage_itself_of_one_alike_or_by_size(looking):
    preflight, made, _ = looking
    training, store = made["unlearned"], preflight.store
    assert preflight.time(training) == (None, "")
    flops = preflight.outlook(training).flops
    recipe = {**training.settings["recipe"], "epochs": 1}
    larger = replace(training, settings={**training.settings, "recipe": recipe})
    for each, facts, expected in (
        (larger, {"seconds": 20.0, "flops": 2 * flops, "devices": 1}, (10.0, "size")),
        (replace(training, settings={**training.settings, "rows": "others"}), {"seconds": 7.0}, (7.0, "like")),
        (training, {"seconds": 3.0}, (3.0, "took")),
    ):
        keep(store, each, **facts)
        preflight.known.times.clear()
        preflight.known._manifests.clear()
        assert preflight.time(training) == expected
