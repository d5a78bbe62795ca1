from __future__ import annotations

from pathlib import Path

import pytest
from helpers.hydra import cell as graph_of
from helpers.hydra import composed
from helpers.hydra import options as options_of
from helpers.results import store_inverted

from meow_lightning.config.validation import resolved
from meow_lightning.console.console import Terminal
from meow_lightning.errors import UserError
from meow_lightning.experiment import Program, _check_shortage, _print_summary, selection_notes
from meow_lightning.pipeline.build import graph
from meow_lightning.pipeline.executor import Executor
from meow_lightning.pipeline.failures import FailureRecord, last_failures
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.pipeline.runners import StageError
from meow_lightning.stages.results.score import ScoreResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store
from meow_lightning.types import Results, ScoredText

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Store, RunGraph]:
    """A store and a run that selects 3 of 4 candidates."""
    run = graph_of("inversion.candidates=4", "method.select.k=3")
    store = Store(root=tmp_path, cache="use")
    folder = store.path(run.rounds[0].candidate_scores)
    folder.mkdir(parents=True)
    texts = [ScoredText("f", "candidate", place, "In Lima.", place / 4, (place / 4,)) for place in range(4)]
    ScoreResult(texts).write(folder)
    return store, run


def test_a_blind_choice_is_reported_once_the_scores_are_there(scored: tuple[Store, RunGraph]) -> None:
    store, run = scored
    (note,) = selection_notes(store, run, {run.rounds[0].candidate_scores.key})
    assert note.startswith("selecting k=3 of 4 candidates: largest and smallest share 2.0 of 3")
    assert selection_notes(store, run, {run.report.key}) == [], "what was not asked for is not shown"


def test_a_method_without_a_choice_has_no_notes_on_it(scored: tuple[Store, RunGraph]) -> None:
    store, _ = scored
    without = graph_of("method=grad_ascent")
    assert selection_notes(store, without, {each.key for each in without.artifacts}) == []


def test_too_few_inverted_facts_are_found_in_the_first_round(tmp_path: Path) -> None:
    words = ("method=meow_loop", "method.select.k=2", "inversion.on_shortage=error")
    chosen, cell = options_of(*words), graph_of(*words)
    store = Store(root=tmp_path, cache="use")
    for each, counts in ((cell.rounds[0].filtered, {"f": 1}), (cell.rounds[-1].filtered, {"f": 8})):
        folder = store.begin(each)
        store_inverted(folder, [], counts=counts)
        store.finish(each, {})
    with pytest.raises(UserError, match="inverted facts"):
        _check_shortage(chosen, store, cell)
    assert _check_shortage(chosen, store, graph_of("method=grad_ascent")) == []


def test_notes_on_the_choice_stand_last_and_do_without_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = Results(definitions=(), values={"target": {"facts_known": 0.07}})
    for results, expected in ((unknown, ["a rule", "a choice"]), (None, ["a choice"])):
        with Terminal(title="run") as terminal:
            _print_summary(terminal, results, None, "", requests=None, caveats=["a rule"], notes=["a choice"])
        out = capsys.readouterr().out
        assert [line.removeprefix("note: ") for line in out.splitlines() if "note: " in line] == expected
        assert ("WARNING: the target model does not know the facts" in out) == (results is not None)


def test_a_run_that_fails_tells_why_until_it_finishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = composed("debug=fast", "logger=none", "goal=propose", f"outputs={tmp_path}")
    options, program = resolved(cfg), Program()

    def broken(self: Executor, artifacts: list[Artifact]) -> None:
        raise StageError("the job for propose ended\nwith a traceback")

    def lone() -> FailureRecord | None:
        return last_failures(tmp_path, (graph(options).tag,))

    with monkeypatch.context() as patched:
        patched.setattr(Executor, "make", broken)
        with pytest.raises(StageError):
            program.run(options)
    story = lone()
    assert story is not None
    assert story.why == "the job for propose ended"
    monkeypatch.setattr(Executor, "make", lambda self, artifacts: None)
    program.run(options.model_copy(update={"plan": True}))
    program.run(options.model_copy(update={"status": True}))
    assert lone() is not None, "who only looks finishes nothing"
    program.run(options)
    assert lone() is None
