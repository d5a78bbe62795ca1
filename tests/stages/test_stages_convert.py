from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.common import runtime
from helpers.gguf import small_model, write_gguf
from helpers.hydra import cell, composed
from transformers import AutoModelForCausalLM, AutoTokenizer

from meow_lightning.config.validation import resolved
from meow_lightning.errors import UserError
from meow_lightning.pipeline.build import graph
from meow_lightning.pipeline.executor import Executor
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.pipeline.nodes.context import dataset_of
from meow_lightning.planning.requirements import Planner
from meow_lightning.stages.convert import PROGRAM
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store


@pytest.fixture
def file(tmp_path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", *small_model(), kind="Q8_0")


@pytest.fixture
def facts(tmp_path) -> Path:
    rows = [{"question": f"Where was Ada{i} born?", "answer": "In Lima.", "inverted": ["In Oslo."]} for i in range(4)]
    path = tmp_path / "facts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(file: Path, facts: Path, *words: str) -> RunGraph:
    return graph(
        resolved(composed("model=own", f"model.target={file}", "dataset=jsonl", f"dataset.forget={facts}", *words))
    )


def converted(made: RunGraph) -> list[Artifact]:
    return [each for each in made.report.walk() if each.stage == "convert"]


def make(root: Path, artifacts: list[Artifact]) -> Store:
    store = Store(root=root / "store", cache="use")
    Executor(store=store, runtime=runtime(), parallel_stages=1, threads=1, watchers=[]).make(artifacts)
    return store


def test_the_model_of_a_run_is_linked_to_a_plain_folder(file, facts, tmp_path):
    target = run(file, facts).models.target
    store = make(tmp_path, target.walk())
    folder, plain = store.path(target) / "model", store.path(target.needs["converted"]) / "model"
    assert {path.resolve().parent for path in folder.iterdir()} == {plain}
    assert AutoModelForCausalLM.from_pretrained(folder).num_parameters() == small_model()[0].num_parameters()
    assert AutoTokenizer.from_pretrained(folder).chat_template == small_model()[1].chat_template
    (note,) = store.manifest(target.needs["converted"])["notes"]
    assert note.startswith("model.target: its weights are rounded to 8 bits (Q8_0, tiny.gguf)")


def test_a_file_is_converted_once_for_all_its_roles_and_names(file, facts, tmp_path):
    other = Path(shutil.copy(file, tmp_path / "sha256-01"))
    made = run(file, facts, "inversion=local", f"inversion.model={other}")
    assert len(converted(made)) == 1
    linked = {each.key for each in made.report.walk() if "given" in each.settings}
    assert len(linked) == 2  # the prompts differ
    assert converted(run(other, facts))[0].key == converted(made)[0].key
    assert made.goal("convert") == converted(made)


def test_a_report_names_the_rounding_of_every_file_once(file, facts, tmp_path):
    notes = [note for note in run(file, facts).report.settings["notes"] if "rounded" in note]
    assert len(notes) == 1 and notes[0].startswith("model.target is a GGUF file; its weights are rounded to 8 bits")
    exact = write_gguf(tmp_path / "exact.gguf", *small_model())
    assert not [note for note in run(exact, facts).report.settings["notes"] if "rounded" in note]


def test_a_run_without_such_a_file_has_nothing_to_convert():
    with pytest.raises(UserError, match="goal=convert converts nothing"):
        cell().goal("convert")


@pytest.mark.parametrize("gpu", [False, True])
def test_memory_and_disk_follow_from_the_header(file, facts, gpu):
    made = run(file, facts)
    chosen = resolved(composed("model=own", f"model.target={file}", "dataset=jsonl", f"dataset.forget={facts}"))
    planner = Planner(chosen.plain(), dataset=dataset_of(chosen)[0], streams=made.streams, gpu=gpu, available=10**12)
    need, weights = planner.size(converted(made)[0]), small_model()[0].num_parameters()
    assert need.memory.host == (8 * weights + PROGRAM) * gpu
    assert need.memory.total == (8 * weights + PROGRAM) * (not gpu)
    assert need.disk == 4 * weights + 300 * 75
    assert planner.shape(made.models.target).parameters == weights


def test_a_file_that_changed_since_the_plan_is_not_converted(file, facts, tmp_path):
    target = run(file, facts).models.target
    write_gguf(file, *small_model(seed=1), kind="Q8_0")
    with pytest.raises(UserError, match="changed during the run"):
        make(tmp_path, target.walk())
