from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.hydra import named, options

from meow_lightning.errors import UserError
from meow_lightning.pipeline.build import graph
from meow_lightning.pipeline.nodes.context import dataset_of
from meow_lightning.planning import model_checks
from meow_lightning.planning.preflight import Known, Preflight
from meow_lightning.resources.hardware import Gpu
from meow_lightning.resources.requirements import NOTHING
from meow_lightning.resources.training_memory import Memory
from meow_lightning.store.store import Store


@pytest.fixture
def looking(tmp_path, monkeypatch):
    """(a preflight, what its run makes, the stages whose stored manifests were read)."""
    chosen = options("method=grad_ascent", f"outputs={tmp_path}")
    made, store = graph(chosen), Store(root=tmp_path / "store", cache="use")
    read: list[str] = []
    manifests = Known._read
    monkeypatch.setattr(Known, "_read", lambda self, stage: read.append(stage) or manifests(self, stage))
    known = Known(trainer=chosen.trainer, store=store)
    found = Preflight(chosen, dataset=dataset_of(chosen)[0], streams=made.streams, known=known)
    return found, named(made), read


def keep(store: Store, artifact, **facts) -> None:
    store.begin(artifact)
    store.finish(artifact, facts)


def test_a_run_reads_no_manifest_of_other_runs_and_a_plan_reads_each_once(looking):
    preflight, made, read = looking
    preflight.fetch(list(made.values()))
    preflight.check(list(made.values()))
    assert preflight.manifest_extras(made["unlearned"])["flops"] > 0
    assert read == []
    for _ in range(2):
        preflight.time(made["unlearned"])
    assert read == ["unlearn"]


def measured(preflight, artifact, *, seconds: float, times: float = 1.0, **changes) -> None:
    """Keep a result of ``times`` the artifact's work, as made in some seconds here."""
    facts = preflight.manifest_extras(artifact)
    facts |= {"flops": times * facts["flops"], "seconds": seconds, "devices": 1, **changes}
    recipe = {**artifact.settings["recipe"], "epochs": 1000 + round(seconds)}
    keep(preflight.store, replace(artifact, settings={**artifact.settings, "recipe": recipe}), **facts)
    preflight.known.times.clear()
    preflight.known._manifests.clear()


def test_time_is_that_of_the_stage_itself_of_one_alike_or_by_size(looking):
    preflight, made, _ = looking
    training = made["unlearned"]
    assert preflight.time(training) == (None, "")
    facts = {"devices": 1, **preflight.manifest_extras(training)}
    assert facts["flops"] > 0
    measured(preflight, training, seconds=20.0, times=2.0)
    assert preflight.time(training) == (10.0, "size")
    keep(preflight.store, replace(training, settings={**training.settings, "rows": "x"}), **facts, seconds=7.0)
    preflight.known.times.clear()
    preflight.known._manifests.clear()
    assert preflight.time(training) == (7.0, "like")
    keep(preflight.store, training, **facts, seconds=3.0)
    preflight.known.times.clear()
    assert preflight.time(training) == (3.0, "took")


@pytest.mark.parametrize(
    "changes", [{"kind": "NVIDIA H100"}, {"threads": 8}, {"devices": 2}], ids=["device", "threads", "devices"]
)
def test_another_machine_says_nothing_about_this_one(looking, changes):
    preflight, made, _ = looking
    measured(preflight, made["unlearned"], seconds=20.0, **changes)
    assert preflight.time(made["unlearned"]) == (None, "")


def test_the_time_of_a_small_model_is_a_guess_for_a_large_one(looking):
    preflight, made, _ = looking
    parameters = preflight.manifest_extras(made["unlearned"])["parameters"]
    measured(preflight, made["unlearned"], seconds=20.0, times=0.005, parameters=parameters // 200)
    assert preflight.time(made["unlearned"]) == (pytest.approx(4000.0), "far")


def test_manifests_of_earlier_versions_say_nothing(looking):
    preflight, made, _ = looking
    training = made["unlearned"]
    old = {"seconds": 7.0, "devices": 1, "flops": 1e9}
    keep(preflight.store, replace(training, settings={**training.settings, "rows": "x"}), **old)
    assert preflight.time(training) == (None, "")


def test_a_plan_learns_the_memory_of_a_stage_like_it(looking):
    preflight, made, _ = looking
    training = made["unlearned"]
    estimate = preflight.outlook(training).memory.total
    assert preflight.memory(training) == (estimate, "estimated")
    measured(preflight, training, seconds=20.0, peak_memory_mib=estimate / 2**20 / 2)
    assert preflight.memory(training) == (estimate // 2, "measured")
    assert preflight.memory(made["report"]) is None
    measured(preflight, training, seconds=21.0, devices=2, peak_memory_mib=1.0)
    assert preflight.memory(training) == (estimate // 2, "measured")


def test_where_no_gpu_can_be_seen_any_gpu_of_the_store_will_do(looking, monkeypatch):
    preflight, _, _ = looking
    known = preflight.known
    monkeypatch.setattr(known, "trainer", known.trainer.model_copy(update={"accelerator": "gpu"}))
    monkeypatch.setattr("meow_lightning.planning.preflight.gpus", list)
    assert known.kind == "gpu"
    assert [known._comparable(kind, 1) for kind in ("NVIDIA H100", "cpu")] == [True, False]
    monkeypatch.setattr("meow_lightning.planning.preflight.gpus", lambda: [Gpu("NVIDIA H100", 2, 1)])
    seen = Known(trainer=known.trainer, store=known.store)
    assert seen.kind == "NVIDIA H100"
    assert [seen._comparable(kind, 99) for kind in ("NVIDIA H100", "NVIDIA T4", "cpu")] == [True, False, False]


GB = 10**9
NEED = Memory(weights=0, gradients=0, optimizer=0, activations=0, logits=0, cache=0, program=3 * GB)


@pytest.fixture
def checked(looking, monkeypatch):
    """Checks two stages that take 3 GB of memory each, leave 1 GB on the disk and have 2 GB more there in passing."""
    preflight, made, _ = looking
    stages = [made["target"], made["unlearned"]]

    def check(
        *, memory: Memory = NEED, available: int = 100 * GB, disk: int = 100 * GB, parallel_stages: int = 1
    ) -> str:
        outlook = replace(NOTHING, memory=memory, disk=GB, passing=2 * GB)
        preflight.known.outlooks.update({stage.key: outlook for stage in stages})
        trainer = preflight.trainer.model_copy(update={"parallel_stages": parallel_stages})
        monkeypatch.setattr(preflight, "trainer", trainer)
        monkeypatch.setattr(Known, "available_memory", available)
        monkeypatch.setattr("meow_lightning.planning.preflight.free_memory", lambda: available)
        monkeypatch.setattr("meow_lightning.planning.preflight.free_disk", lambda _: disk)
        try:
            preflight.check(stages)
        except UserError as error:
            return str(error)
        return ""

    return check


def test_stages_at_once_must_fit_together(checked):
    assert checked(available=5 * GB, parallel_stages=1) == ""
    assert checked(available=5 * GB, parallel_stages=2) == (
        "trainer.parallel_stages=2 concurrent stages require about 6.0 GB of memory, but only 5.0 GB is free: set "
        "trainer.parallel_stages=1, or preflight=false to start anyway"
    )
    assert checked(available=6 * GB, parallel_stages=2) == ""


def test_the_disk_holds_what_is_kept_and_what_passes_of_stages_at_once(checked):
    assert checked(disk=4 * GB, parallel_stages=1) == ""
    assert "the results require about 4.0 GB on the disk of" in checked(disk=4 * GB - 1, parallel_stages=1)
    assert "the results require about 6.0 GB on the disk of" in checked(disk=6 * GB - 1, parallel_stages=2)
    assert checked(disk=6 * GB, parallel_stages=2) == ""


def test_optimizer_states_in_main_memory_must_fit_there(checked):
    paged = replace(NEED, program=0, host=7 * GB)
    assert checked(memory=paged, available=7 * GB) == ""
    assert "unlearn" in checked(memory=paged, available=6 * GB) or "finetune" in checked(memory=paged, available=6 * GB)
    assert "requires 7.0 GB of main memory for optimizer states (optim.optimizer=paged)" in checked(
        memory=paged, available=6 * GB
    )


def test_questions_are_counted_with_every_attempt(looking):
    preflight, made, _ = looking
    ask = replace(made["base"], stage="propose", needs={})
    later = replace(ask, label="later", needs={"scores": made["base"]})
    facts = len(preflight.dataset.facts("forget"))
    words = ("inversion=endpoint", "inversion.model=m", "inversion.base_url=http://localhost/v1")
    preflight.config = options(*words, "inversion.max_new_tokens=9")
    assert preflight.requests([ask, later]) == [("m", facts, 2 * facts * 3, 9)]
    preflight.config = options(*words, "inversion.max_new_tokens=9", "inversion.max_requests=5")
    assert preflight.requests([ask]) == [("m", facts, 5, 9)]
    assert preflight.requests([made["base"]]) == []


@pytest.mark.parametrize(
    ("precision", "instructions", "noted"),
    [
        ("bf16-mixed", [], True),
        ("bf16-true", [], True),
        ("bf16-mixed", ["avx512_bf16"], False),
        ("bf16-mixed", None, False),
        ("32-true", [], False),
    ],
)
def test_a_format_without_instructions_on_this_cpu_is_noted(tmp_path, monkeypatch, precision, instructions, noted):
    monkeypatch.setattr(model_checks, "bf16_instructions", lambda: instructions)
    chosen = options("method=grad_ascent", f"outputs={tmp_path}", "trainer=cpu", f"model.precision={precision}")
    made, store = graph(chosen), Store(root=tmp_path / "store", cache="use")
    known = Known(trainer=chosen.trainer, store=store)
    preflight = Preflight(chosen, dataset=dataset_of(chosen)[0], streams=made.streams, known=known)
    preflight.fetch(list(named(made).values()))
    assert [note for note in preflight.notes if f"model.precision={precision} is slow" in note] == preflight.notes
    assert len(preflight.notes) == noted
    if noted:
        assert "model.precision=32-true" in preflight.notes[0]
