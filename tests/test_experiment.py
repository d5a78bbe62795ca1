from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path

import pytest
from helpers.hydra import cell as graph_of
from helpers.hydra import composed
from helpers.hydra import options as options_of
from helpers.results import store_inverted

from meow_lightning.config.validation import resolved
from meow_lightning.console.console import Terminal
from meow_lightning.errors import UserError
from meow_lightning.evaluation.robustness import RECOVERED
from meow_lightning.evaluation.sets import BENCHMARK
from meow_lightning.evaluation.subject import Subject
from meow_lightning.evaluation.suite.inputs import metric_settings
from meow_lightning.evaluation.suite.suite import definitions
from meow_lightning.experiment import Program, _check_shortage, _print_summary, selection_notes, warn_of_facts
from meow_lightning.pipeline import tracked
from meow_lightning.pipeline.build import graph
from meow_lightning.pipeline.executor import Executor
from meow_lightning.pipeline.failures import FailureRecord, last_failure
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.pipeline.runners import StageError
from meow_lightning.report.tables import CLOSING
from meow_lightning.stages.results.score import ScoreResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store
from meow_lightning.tracking.base import NullLogger, RunEnd
from meow_lightning.types import ROLES, Results, ScoredText

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


def test_own_facts_that_rules_or_values_do_not_suit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text(
        '{"question": "Wo wohnt Jan?", "answer": "Jan wohnt in Bonn.", "value": "Bonn", "id": "jan"}\n'
        '{"question": "Is Ada married?", "answer": "Yes, she is.", "value": "Yes", "id": "ada"}\n'
    )
    given = ("dataset=jsonl", f"dataset.forget={path}")

    def warned(*options: str) -> list[str]:
        config = resolved(composed(*given, *options))
        return warn_of_facts(config, graph(config))

    closed, foreign = warned()
    assert "the value of 1 of 2 facts to forget is yes or no (ada)" in closed
    assert "1 of 2 facts to forget look other than English" in foreign
    assert "(jan)" in foreign
    assert warned("method=grad_ascent") == [closed]  # nobody writes inverted facts
    shipped = resolved(composed())
    assert warn_of_facts(shipped, graph(shipped)) == []


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
    for results, expected in ((unknown, ["a choice"]), (None, ["a choice"])):
        with Terminal(title="run") as terminal:
            _print_summary(terminal, results, None, "", requests=None, notes=["a choice"])
        out = capsys.readouterr().out
        assert [line.removeprefix("note: ") for line in out.splitlines() if "note: " in line] == expected
        assert ("WARNING: the target model does not know the facts" in out) == (results is not None)


@pytest.mark.parametrize(
    ("ends", "outcome"),
    [
        (StageError("the job for propose ended"), "failed"),
        (UserError("mend it"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(-1), "interrupted"),  # submitit's signal handler, before a requeue
        (None, "finished"),
    ],
)
def test_the_logger_learns_how_a_run_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: BaseException | None, outcome: str
) -> None:
    found: list[RunEnd] = []

    class Kept(NullLogger):
        def close(self, end: RunEnd) -> str:
            found.append(end)
            return ""

    def make(self: Executor, artifacts: list[Artifact]) -> None:
        if ends is not None:
            raise ends

    monkeypatch.setattr(tracked, "open_sink", lambda *unused: Kept())
    monkeypatch.setattr(Executor, "make", make)
    with nullcontext() if ends is None else pytest.raises(type(ends)):
        Program().run(resolved(composed("debug=fast", "goal=propose", f"outputs={tmp_path}")))
    (end,) = found
    assert (end.outcome, list(end.numbers), end.report, end.model) == (outcome, [], None, None)


@pytest.mark.parametrize("metrics", [CLOSING, RECOVERED])
def test_the_last_screen_fits_80_columns(
    metrics: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TERM", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    known = definitions(BENCHMARK, metric_settings(truth_ratio_mean="geometric", protocol="none"), protocol="none")
    conditions = {"relearn": "after relearning", "quantise_int4": "after int4 quantisation"}
    subjects = [str(Subject(role, condition)) for condition in ("", *conditions) for role in ROLES]
    values = {subject: dict.fromkeys(metrics, -1.25) for subject in subjects}
    results = Results(definitions=known, values=values, conditions=conditions)
    with Terminal(title="") as terminal:
        _print_summary(terminal, results, None, "", requests=None, notes=["a note " * 20])
    lines = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    changes = len(ROLES) * len(conditions) * len({*metrics} & {*RECOVERED})
    assert " ".join(lines).count("→") == changes, "every number before and after is there"


def test_a_run_that_fails_tells_why_until_it_finishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = composed("debug=fast", "logger=none", "goal=propose", f"outputs={tmp_path}")
    options, program = resolved(cfg), Program()

    def broken(self: Executor, artifacts: list[Artifact]) -> None:
        raise StageError("the job for propose ended\nwith a traceback")

    def lone() -> FailureRecord | None:
        return last_failure(tmp_path, graph(options).tag)

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


def test_what_is_to_be_known_of_the_numbers_is_said_before_they_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    monkeypatch.setattr(Executor, "make", lambda self, artifacts: said.append(capsys.readouterr().out))
    for name in ("forget", "keep"):
        (tmp_path / name).write_text(json.dumps({"question": f"Which {name}?", "answer": "The cat is old."}))
    words = ("debug=fast", "logger=none", f"outputs={tmp_path}", "dataset=jsonl", "method=grad_ascent")
    words = (*words, f"dataset.forget={tmp_path / 'forget'}", f"dataset.retain={tmp_path / 'keep'}")
    note = "note: 1 of 1 facts to keep have the answer of a fact to forget"

    def shown(*more: str) -> str:
        said.clear()
        Program().run(resolved(composed(*words, *more)))
        return capsys.readouterr().out

    assert shown("plan=true").count(note) == 1
    after = shown()
    assert (said[0].count(note), after.count(note)) == (1, 0)
    assert said[0].count("note: No model was provided") == 1
    shown("goal=unlearn")
    assert (said[0].count(note), said[0].count("note: No model was provided")) == (1, 0)
    shown("goal=finetune")
    assert "note:" not in said[0], "nothing is measured or unlearned"


def test_runs_of_one_program_do_not_repeat_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    program = Program()
    program.tell(["of both", "of both", "of one"])
    program.tell(["of both", "of another"])
    assert capsys.readouterr().out.split("\n") == ["note: of both", "note: of one", "note: of another", ""]
