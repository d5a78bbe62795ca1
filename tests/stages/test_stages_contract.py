"""A stage is one file: found in the folder, ordered by what it needs, planned and run without a list of names."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.common import runtime
from helpers.hydra import cell, options
from helpers.results import store_answers

from meow_lightning import stages as package
from meow_lightning.errors import UserError
from meow_lightning.pipeline.executor import Executor
from meow_lightning.pipeline.nodes.context import BuildContext, dataset_of
from meow_lightning.pipeline.worker import run_stage
from meow_lightning.planning.requirements import MANIFEST_BYTES, Planner
from meow_lightning.stages import stage, stages, up_to
from meow_lightning.stages.base import StageContext
from meow_lightning.store.store import Store

COUNT = '''
"""count_rows: count the predictions."""

from dataclasses import dataclass
from pathlib import Path

from meow_lightning.stages.base import Stage
from meow_lightning.stages.results.base import Result
from meow_lightning.stages.results.predict import PredictResult


@dataclass(frozen=True)
class CountResult(Result):
    files = ("count.txt",)
    count: int

    @classmethod
    def read(cls, folder):
        return cls(int((folder / cls.files[0]).read_text()))

    def write(self, folder):
        (folder / self.files[0]).write_text(str(self.count))


class CountRows(Stage):
    name, version, after, outputs, oom_hint = "count_rows", 3, ("predict",), CountResult.files, "buy memory"

    def disk(self, artifact, planner):
        return 7

    def run(self, work):
        if work.settings.get("large"):
            raise type("OutOfMemoryError", (Exception,), {})()
        CountResult(len(PredictResult.read(work.needs["predictions"]).rows)).write(work.folder)
'''


@pytest.fixture
def count_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of a further stage, in a folder beside those of the package."""
    folder = tmp_path / "stages"
    folder.mkdir()
    (folder / "count_rows.py").write_text(COUNT)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    yield
    sys.modules.pop("meow_lightning.stages.count_rows", None)


def test_each_stage_states_what_the_machinery_needs() -> None:
    found = stages()
    for name, each in found.items():
        assert each.name == name
        assert type(each).__module__ == f"meow_lightning.stages.{name}"
        assert each.version >= 1
        assert each.outputs
        assert set(each.after) <= set(found)
        assert each.selected_with == () or set(each.selected_with) <= set(found)


def test_stages_come_after_those_whose_results_they_need() -> None:
    order = list(stages())
    assert order[:2] == ["convert", "finetune"]
    assert order[-1] == "report"
    assert all(order.index(before) < order.index(name) for name in order for before in stage(name).after)
    assert up_to("score") == {"convert", "finetune", "propose", "filter", "translate", "score"}


def test_a_file_without_a_stage_of_its_name_is_an_error(count_rows, tmp_path: Path) -> None:
    (tmp_path / "stages" / "empty.py").write_text("")
    with pytest.raises(TypeError, match=r"^meow_lightning\.stages\.empty defines no subclass of Stage"):
        stages()


def test_a_further_stage_is_found_planned_and_computed(count_rows, tmp_path: Path) -> None:
    assert "count_rows" in stages()
    chosen = options("method=grad_ascent")
    made = cell("method=grad_ascent")
    predictions = made.evaluation.predictions["target"]
    stored = replace(predictions, needs={})
    counted = BuildContext.of(chosen).artifact("count_rows", "target", {}, {"predictions": predictions})
    assert counted.version == 3
    planner = Planner(chosen.plain(), dataset=dataset_of(chosen)[0], streams=made.streams, gpu=False, available=10**12)
    assert planner.size(counted).disk == MANIFEST_BYTES + 7
    assert planner.fitting(counted) == []
    store = Store(root=tmp_path / "store", cache="use")
    store_answers(store.begin(stored), [("forget", "a", "x"), ("forget", "b", "y")])
    store.finish(stored, {})
    alone = replace(counted, needs={"predictions": stored})
    Executor(store=store, runtime=runtime(), parallel_stages=1, threads=1, watchers=[]).make([stored, alone])
    assert (store.path(alone) / "count.txt").read_text() == "2"
    with pytest.raises(UserError, match="goal=count_rows is invalid: expected a stage of the run"):
        made.goal("count_rows")
    goal = replace(made, results=counted).goal("count_rows")
    assert goal[-1] == counted
    assert {each.stage for each in goal} == {"finetune", "predict", "count_rows"}


def test_a_stage_names_what_helps_if_memory_runs_out(count_rows, tmp_path: Path) -> None:
    (tmp_path / "store" / "count_rows" / "k.partial").mkdir(parents=True)
    work = StageContext(
        stage="count_rows", label="target", folder=tmp_path / "store" / "count_rows" / "k.partial",
        settings={"large": True}, inputs={}, needs={}, runtime=runtime(),
    )  # fmt: skip
    with pytest.raises(UserError, match="count_rows target ran out of GPU memory; buy memory, and run again"):
        run_stage(work.to_spec())
