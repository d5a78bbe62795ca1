"""The program as its user runs it: one command, its output, and what is left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FAST = ("debug=fast", "logger=none", "trainer.parallel_stages=1")
LINE = re.compile(r"^(\w+) +(.*?) +([0-9a-f]{12}) +[\d.]+ s +(computed|cached|linked)$", re.MULTILINE)


def start(outputs: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "run.py", *words, f"outputs={outputs}"], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def run(outputs: Path, *words: str) -> str:
    process = start(outputs, *words)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    return out


def stages(out: str) -> dict[tuple[str, str], str]:
    return {(name, label): state for name, label, _, state in LINE.findall(out)}


def results(outputs: Path) -> dict:
    (path,) = (outputs / "store" / "evaluate").glob("*/results.json")
    return json.loads(path.read_text())["values"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    outputs = tmp_path_factory.mktemp("finished")
    return outputs, run(outputs, *FAST)


def test_the_whole_job_makes_every_stage_once_and_says_so(finished: tuple[Path, str]) -> None:
    outputs, out = finished
    made = stages(out)
    assert set(made.values()) == {"computed"}
    assert {name for name, _ in made} == {
        "finetune",
        "propose",
        "filter",
        "score",
        "unlearn",
        "predict",
        "evaluate",
        "report",
    }
    assert "model utility" in out
    assert "these numbers mean nothing" in out
    (report,) = (outputs / "reports").glob("*/report.html")
    assert str(report) in out
    assert not list((outputs / "store").glob("*/*.partial"))


def test_a_second_call_redoes_nothing(finished: tuple[Path, str]) -> None:
    outputs, _ = finished
    before = results(outputs)
    out = run(outputs, *FAST)
    assert set(stages(out).values()) == {"cached"}
    assert results(outputs) == before


def test_runtime_options_find_the_same_results_in_a_store(finished: tuple[Path, str]) -> None:
    outputs, _ = finished
    out = run(
        outputs,
        *FAST,
        "trainer.micro_batch_size=3",
        "trainer.generation_batch_size=2",
        "logger=csv",
        "callbacks.memo_facts=1",
    )
    assert set(stages(out).values()) == {"cached"}
    assert list((outputs / "runs").glob("*.csv"))


@pytest.mark.slow
def test_runtime_options_do_not_change_recomputed_results(finished: tuple[Path, str], tmp_path: Path) -> None:
    words = (
        "trainer.micro_batch_tokens=300",
        "trainer.eval_batch_size=5",
        "trainer.generation_batch_size=3",
        "trainer.threads=2",
    )
    run(tmp_path, *FAST, *words, "callbacks.memo_every_steps=3", "callbacks.log_every=1")
    (curve,) = (tmp_path / "store" / "unlearn").glob("*/metrics.jsonl")
    points = [json.loads(line) for line in curve.read_text().splitlines()]
    steps = [point["step"] for point in points if "memo/clean/true_answers" in point]
    assert steps[:2] == [0, 3]
    assert all(step % 3 == 0 for step in steps[:-1])
    before, after = results(finished[0]), results(tmp_path)
    for role, numbers in before.items():
        assert after[role] == pytest.approx(numbers, rel=1e-5, abs=1e-6), role


def test_length_buckets_are_another_training_and_say_what_they_need(finished: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(finished[0] / "store", tmp_path / "store")
    words = (*FAST, "goal=unlearn")
    found = {each for each in stages(run(tmp_path, *words, "optim.batch_tokens=400")).items() if each[1] == "computed"}
    assert found == {(("unlearn", "unlearned"), "computed")}
    with start(tmp_path, *words, "optim.batch_tokens=9") as process:
        _, err = process.communicate(timeout=120)
    said = (
        r"optim\.batch_tokens=9 is invalid: expected at least (\d+), the tokens of the longest row of the stream "
        r"'inverted', or null for steps of optim\.global_batch_size rows\. Did you mean \d+\?"
    )
    (longest,) = re.findall(said, err)
    assert int(longest) > 9
    assert process.returncode == 1


def test_plain_transformers_loads_the_unlearned_model(finished: tuple[Path, str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    outputs, _ = finished
    (folder,) = (outputs / "store" / "unlearn").glob("*/model")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("Question: Who?\nAnswer:", return_tensors="pt")
    assert model.generate(**ids, max_new_tokens=3).shape[1] <= ids.input_ids.shape[1] + 3


def test_a_goal_stops_there(tmp_path: Path) -> None:
    out = run(tmp_path, *FAST, "goal=filter")
    assert {name for name, _ in stages(out)} == {"propose", "filter"}
    assert not (tmp_path / "reports").exists()


def test_a_sweep_shares_stages_and_ends_with_a_table(finished: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(finished[0] / "store", tmp_path / "store")
    out = run(tmp_path, "-m", "debug=fast", "logger=none", "method=none,grad_ascent,retrain")
    made = [(name, label) for name, label, _, state in LINE.findall(out) if state == "computed"]
    assert [label for name, label in made if name == "finetune"] == []
    assert made.count(("unlearn", "unlearned")) == 1
    assert "3 runs" in out
    assert "method=grad_ascent" in out


def test_the_chosen_epochs_model_is_that_of_a_run_of_as_many_epochs(finished: tuple[Path, str], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    shutil.copytree(finished[0] / "store", tmp_path / "store")
    words = (*FAST, "method=grad_ascent", "goal=evaluate", "callbacks.checkpoint_seconds=0")
    known = {path.name for path in (tmp_path / "store" / "unlearn").iterdir()}
    out = run(tmp_path, *words, "optim.epochs=4", "optim.checkpoint=best", "evaluation.selection_fraction=0.5")
    (epoch,) = re.findall(r"epoch (\d) of 4 was selected \(forgotten", out)
    (chosen,) = {path.name for path in (tmp_path / "store" / "unlearn").iterdir()} - known
    assert json.loads((tmp_path / "store" / "unlearn" / chosen / "epoch.json").read_text())["number"] == int(epoch)
    assert "predict" in {name for name, _ in stages(out)}
    run(tmp_path, *words, f"optim.epochs={epoch}", "goal=unlearn", "callbacks.evaluate_every_epochs=1")
    (plain,) = {path.name for path in (tmp_path / "store" / "unlearn").iterdir()} - known - {chosen}
    folders = [tmp_path / "store" / "unlearn" / name for name in (chosen, plain)]
    first, second = (load_file(folder / "model" / "model.safetensors") for folder in folders)
    assert all(first[name].equal(second[name]) for name in second)
    for folder in folders:
        points = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [point for point in points if "eval/model_utility" in point]


def wait_for(found: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    deadline = time.time() + seconds
    while not found():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.time() < deadline, "the moment to kill the run never came"
        time.sleep(0.005)


LONGER = (
    "debug=fast", "logger=none", "model.pretrain.epochs=12", "callbacks.checkpoint_seconds=0.2",
    "evaluation.max_new_tokens=40",
)  # fmt: skip


def test_the_models_of_a_finished_run_can_be_asked(finished: tuple[Path, str], tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("Where was this person born?\nWhat is the capital?\n", encoding="utf-8")
    words = ["chat", *FAST, f"outputs={finished[0]}", "--ask", str(file), "--max-new-tokens", "4"]
    asked = subprocess.run([sys.executable, "run.py", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    assert len(re.findall(r"target .* unlearned .* retain", asked.stdout)) == 2
    assert "Where was this person born?" in asked.stdout


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    outputs = tmp_path_factory.mktemp("undisturbed")
    run(outputs, *LONGER)
    return results(outputs)


def test_a_run_killed_twice_ends_with_the_same_numbers(undisturbed: dict, tmp_path: Path) -> None:
    store = tmp_path / "store"
    moments: tuple[Callable[[], bool], ...] = (
        lambda: bool(list(store.glob("finetune/*.partial/resume/last.ckpt"))),
        lambda: bool(list(store.glob("predict/*.partial/part-0.jsonl"))),
    )
    for moment in moments:
        process = start(tmp_path, *LONGER)
        wait_for(moment, process)
        # The driver alone: its helpers must go by themselves before the next run takes their work over.
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)
        assert list(store.glob("*/*.partial")), "the kill came too late to disturb anything"
    out = run(tmp_path, *LONGER)
    assert "cached" in stages(out).values()
    assert results(tmp_path) == undisturbed


def test_two_runs_at_once_make_every_stage_once(tmp_path: Path) -> None:
    runs = [start(tmp_path, *FAST) for _ in range(2)]
    outs = [process.communicate(timeout=400) for process in runs]
    assert [process.returncode for process in runs] == [0, 0], outs
    made = [key for out, _ in outs for _, _, key, state in LINE.findall(out) if state == "computed"]
    assert len(made) == len(set(made)) == 15


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def lines(out: str) -> list[str]:
    return [" ".join(line.split()) for line in out.splitlines() if line.strip()]


@pytest.mark.slow
def test_status_sees_a_sweep_run_end_and_be_killed(tmp_path: Path) -> None:
    sweep = ("-m", *FAST, "method=grad_diff,grad_ascent", "goal=unlearn", "model.pretrain.epochs=12")
    process = start(tmp_path, *sweep)
    wait_for(lambda: bool(list(tmp_path.glob("store/finetune/*.partial/progress.json"))), process)
    os.kill(process.pid, signal.SIGSTOP)  # or the stage would end under the eyes of who looks
    before = files(tmp_path)
    said = lines(run(tmp_path, *sweep, "status=true"))
    assert said[2:4] == [
        "method=grad_diff running 0/3 finetune base",
        "method=grad_ascent waiting 0/3 for finetune base, computed by method=grad_diff",
    ]
    assert said[4] == "2 runs: 1 running, 1 waiting"
    head = f"{process.pid} {os.uname().nodename} method=grad_diff "
    assert re.fullmatch(rf"finetune base [0-9a-f]{{12}} {head}\d+ of \d+ steps.*", said[7]), said
    assert files(tmp_path) == before
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    said = lines(run(tmp_path, *sweep, "status=true"))
    assert re.fullmatch(r"method=grad_diff interrupted 0/3 finetune base at \d+ of \d+ steps", said[2]), said
    assert said[4:6] == ["2 runs: 1 interrupted, 1 not started", "nothing is running"]
    run(tmp_path, *sweep)
    said = lines(run(tmp_path, *sweep, "status=true"))
    assert said[2:] == [
        "method=grad_diff done 3/3", "method=grad_ascent done 3/3", "2 runs: 2 done", "nothing is running"
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_in_a_sweep_give_one_processs_numbers(finished: tuple[Path, str], tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    # What goes before unlearning is taken from the single process; its unlearning and answers are made anew by two.
    store = tmp_path / "store"
    shutil.copytree(finished[0] / "store", store)
    (folder,) = store.glob("unlearn/*")
    alone = load_file(folder / "model" / "model.safetensors")
    rows = {path.parent.name: path.read_text().splitlines() for path in store.glob("predict/*/rows.jsonl")}
    for name in ("unlearn", "predict", "evaluate", "report"):
        shutil.rmtree(store / name)
    words = ("debug=fast", "logger=none", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    words += ("trainer.micro_batch_tokens=200",)
    run(tmp_path, "-m", *words, "goal=predict", "method=meow,retrain")
    assert json.loads((folder / "manifest.json").read_text())["devices"] == 2
    for name, weight in load_file(folder / "model" / "model.safetensors").items():
        torch.testing.assert_close(weight, alone[name], rtol=0, atol=1e-5)
    for path in store.glob("predict/*/rows.jsonl"):
        for one, two in zip(rows[path.parent.name], path.read_text().splitlines(), strict=True):
            left, right = json.loads(one), json.loads(two)
            assert left["text"] == right["text"]
            assert right["truth"]["logps"] == pytest.approx(left["truth"]["logps"], abs=1e-5)


def test_mixed_versions_and_what_was_lost_are_reported(finished: tuple[Path, str], tmp_path: Path) -> None:
    outputs = Path(shutil.copytree(finished[0], tmp_path / "copy", symlinks=True))
    (path,) = (
        each
        for each in outputs.glob("store/predict/*/manifest.json")
        if json.loads(each.read_text())["label"] == "target"
    )
    manifest = json.loads(path.read_text())
    manifest["packages"]["torch"] = "1.0"
    del manifest["seal"]  # as of a version without seals
    path.write_text(json.dumps(manifest))
    shutil.rmtree(outputs / "store" / "report")
    synced = list((outputs / "runs" / "synced").glob("none-*.json"))
    assert synced
    for record in synced:
        record.write_bytes(b"\0" * 40)
    out = run(outputs, *FAST)
    assert {stage for (stage, _), state in stages(out).items() if state == "computed"} == {"report"}
    said = re.search(r"^note: (Results of different library versions were used together: torch .*)$", out, re.MULTILINE)
    assert said is not None
    assert " and 1.0 (predict target)" in said[1]
    (report,) = outputs.glob("reports/*/report.html")
    assert said[1].partition(" torch ")[0] in report.read_text()
    assert "the record of the points logged to none cannot be read; logging all of them again" in out


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything in a folder, itself too, with its inode and the time at which it was last changed in any way."""
    every = [folder, *sorted(folder.rglob("*"))]
    return {str(path): (path.lstat().st_ino, path.lstat().st_ctime_ns) for path in every}


LOOKS = ("plan=true", "status=true", "cache=readonly", "-m plan=true seed=0,1", "-m status=true", "-m cache=readonly")


@pytest.mark.parametrize("words", LOOKS)
def test_read_only_commands_write_nothing(finished: tuple[Path, str], words: str) -> None:
    outputs, _ = finished
    before = snapshot(outputs)
    out = run(outputs, *FAST[:1], "logger=csv", *words.split())
    assert snapshot(outputs) == before
    if "readonly" in words:
        assert "model utility" in out
        assert f"report: {outputs}/store/report/" in out


def test_missing_results_on_a_read_only_disk_are_one_line(finished: tuple[Path, str]) -> None:
    outputs, _ = finished
    before = snapshot(outputs)
    process = start(outputs, *FAST, "cache=readonly", "seed=7")
    _, err = process.communicate(timeout=400)
    assert process.returncode == 1
    assert err.startswith("error: cache=readonly computes nothing, but these results are missing: finetune base, ")
    assert err.endswith(", report; set cache=use\n")
    assert len(err.splitlines()) == 1
    assert snapshot(outputs) == before


@pytest.fixture
def frozen(finished: tuple[Path, str], tmp_path: Path) -> Iterator[Path]:
    """The outputs on a disk that is read-only, to root too."""
    place = tmp_path / "frozen"
    place.mkdir()
    bound = subprocess.run(
        ["mount", "--bind", str(finished[0]), str(place)], capture_output=True, text=True, check=False
    )
    if bound.returncode:
        pytest.skip(f"needs the right to mount: {bound.stderr.strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        with pytest.raises(OSError, match="Read-only"):
            (place / "x").touch()
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("words", LOOKS)
def test_a_look_does_with_a_read_only_disk(frozen: Path, words: str) -> None:
    assert "finetune" in run(frozen, *FAST, *words.split()) or words == "-m status=true"


def test_work_on_a_read_only_disk_is_one_line(frozen: Path) -> None:
    process = start(frozen, *FAST)
    _, err = process.communicate(timeout=400)
    assert (process.returncode, err) == (
        1,
        f"error: outputs={frozen} cannot be written to (the disk is read-only); choose another folder\n",
    )
